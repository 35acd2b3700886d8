"""Containers as the kubelet would start them: their command line and environment from the rendered objects, as
processes of this machine."""

import base64
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stoker.render.components import COMPONENTS
from stoker.render.items import Resource
from stoker.render.plan import Plan

Object = dict[str, Any]


def objects(plan: Plan) -> list[Object]:
    """Everything that all components render."""
    items = [item for component in COMPONENTS.values() for item in component(plan)]
    return [item.object for item in items if isinstance(item, Resource)]


def the(found: list[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    [only] = [each for each in found if each["kind"] == kind and each["metadata"]["name"] == name]
    return only


def pod_of(workload: Object) -> Object:
    pod: Object = workload["spec"]["template"]["spec"]
    return pod


def containers_that_run(found: list[Object], module: str) -> list[Object]:
    """Containers of rendered workloads whose command line runs this module of ours."""
    pods = [pod_of(each) for each in found if "template" in each.get("spec", {}) and "spec" in each["spec"]["template"]]
    everything = [one for pod in pods for one in [*pod.get("initContainers", []), *pod.get("containers", [])]]
    return [one for one in everything if module in command_line(one)]


def command_line(container: Object) -> list[str]:
    return [*container.get("command", []), *container.get("args", [])]


def environment(
    container: Object, secrets: Mapping[str, Mapping[str, str]], fields: Mapping[str, str] | None = None
) -> dict[str, str]:
    """As the kubelet makes it: in order, with $(NAME) of what came before. KeyError for a Secret, or a key of one, that
    is not there."""
    made: dict[str, str] = {}
    for entry in container.get("env", []):
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            made[entry["name"]] = secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        elif "fieldRef" in source:
            made[entry["name"]] = (fields or {})[source["fieldRef"]["fieldPath"]]
        else:
            made[entry["name"]] = expanded(entry["value"], made)
    return made


def expanded(text: str, environ: Mapping[str, str]) -> str:
    return re.sub(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)", lambda found: environ.get(found[1], found[0]), text)


def secrets_of(found: list[Object], remote: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """What the External Secrets Operator would make of what lies in AWS Secrets Manager."""
    return {
        each["spec"]["target"]["name"]: {
            entry["secretKey"]: remote[entry["remoteRef"]["key"]][entry["remoteRef"]["property"]]
            for entry in each["spec"]["data"]
        }
        for each in found
        if each["kind"] == "ExternalSecret"
    }


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def process(log: Path, argv: list[str], environ: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """With the environment of its container and nothing of ours; killed at the end if it is still there. `python` is
    the one that runs the tests."""
    command = [sys.executable if argv[0] == "python" else argv[0], *argv[1:]]
    # Loopback only: nobody asks the metadata service of a machine that may have one.
    whole = {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true", **environ}
    with log.open("w") as errors:
        made = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, env=whole
        )
        with made:
            try:
                yield made
            finally:
                if made.poll() is None:
                    made.kill()


def password() -> str:
    """One that needs no escaping in a URL."""
    return base64.b32encode(os.urandom(20)).decode().lower()
