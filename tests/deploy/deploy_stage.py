"""A small platform and a cluster to deploy it to, for tests of `stoker.deploy`."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stoker.deploy import applying, destroying
from stoker.deploy.inventory import NAME
from stoker.deploy.planning import DeployPlan, plan_objects
from stoker.deploy.site import Site
from stoker.deploy.waiting import Patience
from stoker.kubernetes.cluster import Cluster
from stoker.spec import loads
from stoker.testing.kubernetes import ApiServer, Call, api_server

Tree = dict[str, Any]
CONTEXT = "stand-in"
SMALL = """
global:
  cluster: {name: small, region: us-west-2, mode: auto}
  observability: {enabled: false}
composition: {ack: {enabled: false}}
redis: {architecture: standalone}
llm:
  models:
    general: {weights: s3://weights/general}
edge: {enabled: false}
deploy: {context: stand-in, terraform: false, controllers: false, waitSeconds: 60}
"""
BY_THE_SERVER = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation")


class Stage:
    """One cluster, and platforms that are deployed to it. Time passes only by being slept."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.said: list[str] = []
        self.slept = 0.0
        self.while_it_sleeps: Callable[[], object] = lambda: None

    def site(self, text: str = SMALL) -> Site:
        return Site(loads(text), self.folder / "state", sleep=self._sleep)

    def plan(self, text: str = SMALL) -> DeployPlan:
        site = self.site(text)
        cluster = self.connect(site)
        try:
            return DeployPlan(None, plan_objects(cluster, site.objects, site.plan.namespace, site.owner))
        finally:
            cluster.close()

    def deploy(self, text: str = SMALL, *, force: bool = False) -> None:
        site = self.site(text)
        plan = DeployPlan(None, ())
        applying.deploy(site, plan, self.patience(site), self.said.append, force=force)

    def destroy(self, text: str = SMALL, *, delete_data: bool = False) -> None:
        site = self.site(text)
        cluster = self.connect(site)
        try:
            plan = destroying.plan_destroy(site, cluster, delete_data=delete_data)
        finally:
            cluster.close()
        destroying.destroy(site, plan, self.patience(site), self.said.append, delete_data=delete_data)

    def connect(self, site: Site) -> Cluster:
        cluster = site.connect()
        assert cluster is not None
        return cluster

    def patience(self, site: Site) -> Patience:
        return Patience(site.spec.deploy.wait_seconds, monotonic=lambda: self.slept, sleep=self._sleep)

    def stored(self) -> dict[tuple[str, str, str], Tree]:
        """What the cluster holds of the platform, without what only the server writes and without what changes each
        time: the inventory's version is in it."""
        found = {}
        for obj in self.server.objects():
            meta = obj["metadata"]
            if obj["kind"] in ("Pod", "Event", "Lease", "ReplicaSet", "Secret", "NodeClaim", "PersistentVolume"):
                continue
            kept = copy.deepcopy(obj)
            kept.pop("status", None)
            kept["metadata"] = {key: value for key, value in meta.items() if key not in BY_THE_SERVER}
            found[obj["kind"], meta.get("namespace", ""), meta["name"]] = kept
        return found

    def _sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.while_it_sleeps()


@contextmanager
def staged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with api_server() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(folder / "kubeconfig", CONTEXT)))
        yield Stage(server, folder)


INVENTORY = ("ConfigMap", "agentic-ai", NAME)


class Outage:
    """From the n-th call that changes something no call comes through, until it is over."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.has_begun = False
        self.is_over = False

    def begins(self, call: Call) -> bool:
        strikes = not self.has_begun and call.changing == self.number
        self.has_begun = self.has_begun or strikes
        return strikes

    def lasts(self, call: Call) -> bool:
        return self.has_begun and not self.is_over and call.changing != self.number
