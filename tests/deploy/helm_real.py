"""Real Helm for tests, and what it has made of a chart in the stand-in for a cluster."""

import base64
import contextlib
import copy
import gzip
import json
import subprocess
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker.render.chart import render_chart
from stoker.render.folder import write
from stoker.render.run import render
from stoker.spec import Mode, Platform, loads
from stoker.testing.kubernetes import ApiServer, defaults
from stoker.testing.kubernetes.resources import Registry

Object = dict[str, Any]
Id = tuple[str, str, str, str]
ROOT = Path(__file__).parents[2]
HOME = ROOT / ".helm"
_OF_SERVER = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")


class Refused(Exception):
    """What Helm said."""


class Helm:
    """One process for all actions: its library takes a second to load."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _do(self, **asked: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "refused" in answer:
            raise Refused(answer["refused"])
        return answer["done"]

    def lint(self, chart: Path) -> list[int]:
        """Severities of what was found: 1 is information, 2 a warning, 3 an error."""
        return [each["Severity"] for each in self._do(do="lint", chart=str(chart))["Messages"]]

    def install(self, chart: Path, kubeconfig: Path, values: Object | None = None, **options: Any) -> Object:
        return self._release("install", chart, kubeconfig, values, options)

    def upgrade(self, chart: Path, kubeconfig: Path, values: Object | None = None, **options: Any) -> Object:
        return self._release("upgrade", chart, kubeconfig, values, options)

    def _release(self, do: str, chart: Path, kubeconfig: Path, values: Object | None, options: Object) -> Object:
        namespace = options.pop("namespace", "default")
        found: Object = self._do(
            do=do,
            release="agentic-ai",
            chart=str(chart),
            namespace=namespace,
            kubeconfig=str(kubeconfig),
            values=values,
            options={"wait": False, "server_side_apply": True, **options},
        )
        return found

    def uninstall(self, kubeconfig: Path) -> None:
        self._do(do="uninstall", release="agentic-ai", kubeconfig=str(kubeconfig), options={"wait": False})


@contextlib.contextmanager
def real_helm() -> Iterator[Helm]:
    """Skips the test where `scripts/helm` has not been run, or could not bring it."""
    if not (HOME / "installed").exists():
        pytest.skip("no real Helm here; `make test-helm` brings it, with Python 3.12 or newer")
    command = [str(HOME / "bin" / "python"), str(Path(__file__).parent / "helm_client.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Helm(process)
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=20)


def chart_of(platform: Platform, folder: Path, mode: Mode | None = None) -> Path:
    write(folder, render_chart(platform, mode=mode))
    return folder


def _all(text: str) -> list[Object]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all(text, Loader=loader) if each]


def id_of(found: Object) -> Id:
    group, named = found["apiVersion"].rpartition("/")[0], found["metadata"]
    return (group, found["kind"], named.get("namespace", ""), named["name"])


def rendered(platform: Platform, mode: Mode | None = None) -> dict[Id, Object]:
    """What `stoker render` writes."""
    texts = {name: text for name, text in render(platform, mode=mode).items() if "/" in name and name.endswith(".yaml")}
    objects = [each for name, text in texts.items() if not name.startswith("on-demand/") for each in _all(text)]
    return {id_of(each): each for each in objects}


def wanted(platform: Platform, mode: Mode | None = None) -> dict[Id, Object]:
    """What `stoker render` writes, as a cluster has it once Helm has made it."""
    registry = Registry("all", "1.34")
    found = {}
    for id, each in rendered(platform, mode).items():
        labels = each["metadata"]["labels"]
        labels["app.kubernetes.io/managed-by"] = "Helm"  # Helm writes it over ours, on the objects alone
        if each["kind"] == "Namespace":  # what the API server adds
            labels["kubernetes.io/metadata.name"] = each["metadata"]["name"]
            each["spec"] = {"finalizers": ["kubernetes"]}
        resource = registry.of_kind(id[0], id[1])
        version = each["apiVersion"].rpartition("/")[2]
        found[id] = each if resource is None else defaults.fill(each, resource, version)
    return found


def made(api: ApiServer) -> dict[Id, Object]:
    """The objects that are the release's, without what is Helm's and the server's about them."""
    found = {}
    for each in api.objects():
        annotations = each["metadata"].get("annotations", {})
        if annotations.get("meta.helm.sh/release-name") == "agentic-ai":
            found[id_of(each)] = _plain(each)
    return found


def _plain(found: Object) -> Object:
    found = copy.deepcopy(found)
    found.pop("status", None)
    named = found["metadata"]
    for key in _OF_SERVER:
        named.pop(key, None)
    named["annotations"] = {k: v for k, v in named["annotations"].items() if not k.startswith("meta.helm.sh/")}
    if not named["annotations"]:
        del named["annotations"]
    return found


def manifest(api: ApiServer, namespace: str = "default", revision: int = 1) -> dict[Id, Object]:
    """What the record of the release says: the objects as templates made them."""
    secret = api.get("Secret", f"sh.helm.release.v1.agentic-ai.v{revision}", namespace)
    assert secret is not None
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    return {id_of(each): each for each in _all(release["manifest"])}


def changed(chart: Path, values: Object) -> Platform:
    """The platform of a file that says all that the chart's values say, and these instead."""
    return loads(yaml.safe_dump(_merged(yaml.safe_load((chart / "values.yaml").read_text()), values), sort_keys=False))


def _merged(base: Object, over: Object) -> Object:
    return base | {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in over.items()
    }


def differences(found: Any, expected: Any, place: str = "") -> list[str]:
    """Where two trees differ, with both values."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = sorted(found.keys() | expected.keys(), key=str)
        each = (differences(found.get(key), expected.get(key), f"{place}.{key}") for key in keys)
        return [line for lines in each for line in lines]
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return [line for index, (one, two) in pairs for line in differences(one, two, f"{place}[{index}]")]
    if isinstance(found, str) and isinstance(expected, str) and "\n" in found:
        pairs = enumerate(zip_longest(found.splitlines(), expected.splitlines()), start=1)
        return [f"{place}:{number}: {one} != {two}" for number, (one, two) in pairs if one != two]
    return [] if found == expected and type(found) is type(expected) else [f"{place}: {found!r} != {expected!r}"]
