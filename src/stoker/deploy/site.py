"""What one file may act on: its account, its cluster, and the folder in which Terraform works. Whoever acts asks here
first, and is refused whatever the file does not name.
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from stoker.aws import identity
from stoker.base.errors import InvalidInput, NotPermitted
from stoker.deploy import helm, terraform
from stoker.deploy.inventory import Owner
from stoker.kubernetes import cluster as clusters
from stoker.kubernetes.cluster import Cluster, Tree
from stoker.render.plan import Maker, Plan
from stoker.render.root.outputs import filled_in
from stoker.render.run import render_objects, render_root
from stoker.spec import Platform

_CLUSTER = "aws_eks_cluster.main"


@dataclass(frozen=True)
class Site:
    """`state`: the state directory; what is of this cluster lies in deploy/CLUSTER below it. `made`: Terraform's
    outputs by name, as far as they are known (`now`). `sleep` is for tests."""

    spec: Platform
    state: Path
    sleep: Callable[[float], None] = time.sleep
    made: Mapping[str, Any] = field(default_factory=dict)

    def now(self) -> "Site":
        """The same, with what Terraform says that it has made. Outputs outlive what they name: where the state has no
        cluster, there is none."""
        if self.root is None:
            return self
        has_cluster = _CLUSTER in self.root.resources()
        return replace(self, made=self.root.outputs() if has_cluster else {})

    @cached_property
    def plan(self) -> Plan:
        """With what only Terraform could know."""
        aws: Maker = "terraform" if self.spec.deploy.terraform else "ack"
        return Plan(filled_in(self.spec, self.made), self.spec.global_.cluster.mode, aws)

    @property
    def folder(self) -> Path:
        return self.state / "deploy" / self.plan.cluster

    @property
    def owner(self) -> Owner:
        return Owner(self.plan.account, self.plan.region, self.plan.cluster)

    @cached_property
    def objects(self) -> list[Tree]:
        """What the file asks for, in no order that matters."""
        return render_objects(self.plan)

    @property
    def context(self) -> str:
        """The one context that may be acted on."""
        said = self.spec.deploy.context
        return (
            said or f"arn:{self.plan.partition}:eks:{self.plan.region}:{self.plan.account}:cluster/{self.plan.cluster}"
        )

    def check(self) -> None:
        """Raises InvalidInput for a file that names too little, and NotPermitted for credentials of another account.
        Nothing is changed, and no cluster is asked."""
        if not self.spec.deploy.terraform:
            return
        if self.plan.account is None:
            raise InvalidInput(
                "global.cluster.account is null, and nothing is done in an account that the file does not name",
                param="global.cluster.account",
                hint="write it, 12 digits in quotes; `aws sts get-caller-identity` says which one you are in",
            )
        caller = identity.caller(self.plan.region)
        if caller.account != self.plan.account:
            raise NotPermitted(
                f"the credentials are of the account {caller.account} ({caller.arn}), and the file names "
                f"{self.plan.account}",
                hint="AWS_PROFILE chooses others, or global.cluster.account is wrong",
            )

    @cached_property
    def root(self) -> terraform.Terraform | None:
        """Terraform with the root module; None where the file leaves it out. Raises InvalidInput where the program is
        missing."""
        if not self.spec.deploy.terraform:
            return None
        variables = terraform.variables_of(os.environ.get("STOKER_TERRAFORM_VARIABLES"))
        return terraform.find(variables, self.folder / "terraform")

    def prepare_root(self) -> terraform.Terraform | None:
        """With its module written, and ready to plan."""
        found = self.root
        if found is not None:
            found.write(render_root(self.spec))
            found.init()
        return found

    def is_making_the_cluster(self, plan: terraform.TerraformPlan | None) -> bool:
        """Whether what is planned makes it, or makes it anew: whatever there is now has nothing to say then."""
        changes = plan.changes if plan is not None and self.spec.deploy.context is None else ()
        return any(each.address == _CLUSTER and each.action in ("create", "replace") for each in changes)

    def connect(self) -> Cluster | None:
        """The cluster; None where Terraform has not made it yet. Raises as `clusters.connect`."""
        if self.spec.deploy.context is None and "cluster_endpoint" not in self.made:
            return None
        return clusters.connect(self.kubeconfig(), self.context, sleep=self.sleep)

    def helm(self) -> helm.Helm:
        return helm.find(self.kubeconfig(), self.context, self.spec.deploy.wait_seconds)

    def kubeconfig(self) -> Path:
        """The user's, where the file names a context of it; otherwise our own, made of Terraform's outputs."""
        if self.spec.deploy.context is not None:
            return _users_kubeconfig()
        path = self.folder / "kubeconfig"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(json.dumps(own_kubeconfig(self.plan, self.context, self.made), indent=1))
        return path


def own_kubeconfig(plan: Plan, context: str, outputs: Mapping[str, Any]) -> Tree:
    """One context, which signs in as whoever runs it."""
    sign_in = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": sys.executable,
        "args": ["-m", "stoker.aws.identity", plan.cluster, plan.region],
        "interactiveMode": "Never",
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [
            {
                "name": context,
                "cluster": {
                    "server": outputs["cluster_endpoint"],
                    "certificate-authority-data": outputs["cluster_certificate_authority"],
                },
            }
        ],
        "users": [{"name": context, "user": {"exec": sign_in}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context, "namespace": plan.namespace}}],
    }


def kubectl_hint(plan: Plan) -> str:
    """How a person gets a context of their own."""
    words = ["aws", "eks", "update-kubeconfig", "--name", plan.cluster, "--region", plan.region]
    return shlex.join(words)


def _users_kubeconfig() -> Path:
    """Where kubectl reads it. Several files in KUBECONFIG are more than is merged here."""
    said = [each for each in os.environ.get("KUBECONFIG", "").split(os.pathsep) if each]
    if len(said) > 1:
        raise InvalidInput(
            "KUBECONFIG names several files", param="KUBECONFIG", hint="name the one that has deploy.context"
        )
    return Path(said[0]) if said else Path.home() / ".kube" / "config"
