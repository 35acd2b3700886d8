"""What `helm` does, see `helm.py`: copied beside the script that runs it, so that it starts quickly. It imports nothing
of ours, and talks to the cluster by plain HTTPS."""

import base64
import http.client
import json
import os
import ssl
import sys
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

Tree = dict[str, Any]

_FLAGS = {
    "--install",
    "--create-namespace",
    "--wait",
    "--ignore-not-found",
    "--short",
    "--atomic",
    "--force-conflicts",
    "--rollback-on-failure",
    "--skip-crds",
    "-A",
    "--all-namespaces",
    "--deployed",
    "--failed",
    "--pending",
    "--uninstalling",
}
_STATES = ("deployed", "failed", "pending", "uninstalling")
_SHORT = {"-n": "--namespace", "-f": "--values", "-o": "--output", "-A": "--all-namespaces"}
_TAKE_ONE = {
    "--version",
    "--namespace",
    "--values",
    "--timeout",
    "--kube-context",
    "--kubeconfig",
    "--output",
    "--template",
    "--repo",
    "--set",
    "--set-string",
    "--history-max",
    "--cascade",
    "--registry-config",
    "--repository-cache",
    "--repository-config",
    "--description",
    "--max",
}
_TIME = "2026-01-01T00:00:00Z"


def main(folder: str, words: list[str]) -> NoReturn:
    place = Path(folder)
    with (place / "helm-calls.jsonl").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    settings = json.loads((place / "helm-charts.json").read_text())
    positional, options = parsed(words)
    verb = positional[0] if positional else "help"
    if verb == "version":
        say(settings["version"] if "--template" in options else f"{settings['version']}+gstandin")
        sys.exit(0)
    fault = struck(place) if verb in ("upgrade", "install", "uninstall", "rollback") else {}
    if fault.get("when") == "before":
        fail(fault["message"])
    release = Helm(Cluster(options), settings["charts"], options, fault.get("when") == "middle")
    match verb, positional[1:]:
        case (("upgrade" | "install"), [name, chart]):
            release.install(name, chart, may_install=verb == "install" or "--install" in options)
        case "uninstall", names:
            for name in names:
                release.uninstall(name)
        case "rollback", [name, *_]:
            release.rollback(name)
        case "list", []:
            release.show()
        case "status", [name]:
            release.status(name)
        case _:
            fail(f"the stand-in for helm does not know: helm {' '.join(words)}")
    if fault:
        fail(fault["message"])
    sys.exit(0)


def parsed(words: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Positional words and options; an option that this program does not know is refused, as Helm refuses it."""
    positional: list[str] = []
    options: dict[str, list[str]] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            positional.append(word)
            continue
        name, has_value, value = word.partition("=")
        long = _SHORT.get(name, name)
        if long in _FLAGS:
            options.setdefault(long, []).append(value)
        elif long in _TAKE_ONE and (has_value or left):
            options.setdefault(long, []).append(value if has_value else left.pop(0))
        else:
            fail(f"unknown flag: {name}")
    return positional, options


def struck(place: Path) -> Tree:
    """The fault of this call, which has been written down; `{}` for none."""
    path = place / "helm-faults.json"
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in (place / "helm-calls.jsonl").read_text().splitlines()]
    changing = [each for each in lines if each[:1] and each[0] in ("upgrade", "install", "uninstall", "rollback")]
    found: Tree = json.loads(path.read_text()).get(str(len(changing)), {})
    return found


class Cluster:
    """The API server that the kubeconfig names."""

    def __init__(self, options: dict[str, list[str]]) -> None:
        path = (options.get("--kubeconfig") or [os.environ.get("KUBECONFIG", "")])[-1]
        if not path:
            fail("Kubernetes cluster unreachable: the stand-in reads no kubeconfig but the one that it is given")
        config = read(Path(path))
        wanted = (options.get("--kube-context") or [config.get("current-context", "")])[-1]
        contexts = {each["name"]: each["context"] for each in config.get("contexts") or []}
        if wanted not in contexts:
            fail(f'context "{wanted}" does not exist')
        context = contexts[wanted]
        cluster = next(each["cluster"] for each in config["clusters"] if each["name"] == context["cluster"])
        user = next(each["user"] for each in config["users"] if each["name"] == context["user"])
        self._headers = {"User-Agent": "Helm/4.0.0", "Authorization": f"Bearer {user.get('token', '')}"}
        server = urlsplit(cluster["server"])
        authority = base64.b64decode(cluster.get("certificate-authority-data", "")).decode() or None
        self._http = http.client.HTTPSConnection(
            server.hostname or "", server.port, timeout=30, context=ssl.create_default_context(cadata=authority)
        )

    def ask(self, method: str, path: str, body: Any = None, content: str = "application/json") -> tuple[int, Tree]:
        try:
            headers = {**self._headers, "Content-Type": content, "Accept": "application/json"}
            self._http.request(method, path, None if body is None else json.dumps(body), headers)
            answer = self._http.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        except (OSError, http.client.HTTPException) as error:
            fail(f"Kubernetes cluster unreachable: {type(error).__name__}: {error}")

    def must(
        self, method: str, path: str, body: Any = None, content: str = "application/json", missing: bool = False
    ) -> Tree:
        """Ends the program where the server says no; 404 is an answer where it may be `missing`, and 409 never is."""
        status, found = self.ask(method, path, body, content)
        if status >= 400 and not (missing and status == 404):
            fail(str(found.get("message", status)))
        return found if status < 400 else {}

    def apply(self, path: str, obj: Tree) -> Tree:
        query = "?fieldManager=helm&force=true"
        return self.must("PATCH", path + query, obj, "application/apply-patch+yaml")


class Helm:
    def __init__(self, cluster: Cluster, charts: Tree, options: dict[str, list[str]], is_cut: bool) -> None:
        self._cluster = cluster
        self._charts = charts
        self._options = options
        self._is_cut = is_cut
        self._namespace = (options.get("--namespace") or ["default"])[-1]

    def install(self, name: str, chart: str, *, may_install: bool) -> None:
        plain = chart.rpartition("/")[2]
        brought = self._charts.get(chart, self._charts.get(plain))
        if brought is None:
            fail(f"failed to fetch {chart}: 404 Not Found")
        for path in self._options.get("--values", []):
            read(Path(path))
        version = (self._options.get("--version") or ["0.0.0"])[-1]
        history = self.history(name)
        last = history[-1] if history else None
        deployed = [each for each in history if each["status"] in ("deployed", "superseded")]
        if last and last["status"].startswith("pending-"):
            fail("UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress")
        if not deployed and not may_install:
            fail(f'UPGRADE FAILED: "{name}" has no deployed releases')
        if "--create-namespace" in self._options:
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
            status, said = self._cluster.ask("POST", "/api/v1/namespaces?fieldManager=helm", namespace)
            if status >= 400 and status != 409:
                fail(str(said.get("message", status)))
        number = last["version"] + 1 if last else 1
        release = {
            "name": name,
            "namespace": self._namespace,
            "version": number,
            "chart": plain,
            "chart_version": version,
        }
        self.keep({**release, "status": "pending-upgrade" if deployed else "pending-install"})
        for each in brought:
            made = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{each['metadata']['name']}"
            self._cluster.apply(made, each)
        if self._is_cut:
            os._exit(137)
        self.deploy(name, plain, version)
        if "--wait" in self._options and not self.is_ready(name):
            self.keep({**release, "status": "failed"})
            word = "UPGRADE" if deployed else "INSTALLATION"
            fail(f"{word} FAILED: resource Deployment/{self._namespace}/{name} not ready. context deadline exceeded")
        self.keep({**release, "status": "deployed"})
        for each in deployed:
            if each["status"] == "deployed":
                self.keep({**each, "status": "superseded"})
        say(f"NAME: {name}\nNAMESPACE: {self._namespace}\nSTATUS: deployed\nREVISION: {number}")

    def uninstall(self, name: str) -> None:
        history = self.history(name)
        if not history:
            if "--ignore-not-found" in self._options:
                say(f'release "{name}" not found; ignored')
                return
            fail(f"uninstall: Release not loaded: {name}: release: not found")
        self.keep({**history[-1], "status": "uninstalling"})
        if self._is_cut:
            os._exit(137)
        self._cluster.must("DELETE", f"{self.deployments()}/{name}", missing=True)
        for each in history:
            self._cluster.must("DELETE", self.secret_path(each), missing=True)
        say(f'release "{name}" uninstalled')

    def rollback(self, name: str) -> None:
        history = self.history(name)
        good = [each for each in history if each["status"] in ("deployed", "superseded")]
        if not good:
            fail(f'release: not found: "{name}" has nothing to go back to')
        number = history[-1]["version"] + 1
        self.keep({**good[-1], "version": number, "status": "pending-rollback"})
        if self._is_cut:
            os._exit(137)
        self.deploy(name, good[-1]["chart"], good[-1]["chart_version"])
        self.keep({**good[-1], "version": number, "status": "deployed"})
        for each in history:
            if each["status"] == "deployed" or each["status"].startswith("pending-"):
                self.keep({**each, "status": "superseded"})
        say("Rollback was a success! Happy Helming!")

    def show(self) -> None:
        """Without --all, as Helm 3: what is deployed or failed."""
        releases = self.latest("" if "--all-namespaces" in self._options else self._namespace)
        shown = [
            {
                "name": each["name"],
                "namespace": each["namespace"],
                "revision": str(each["version"]),
                "updated": "2026-01-01 00:00:00 +0000 UTC",
                "status": each["status"],
                "chart": f"{each['chart']}-{each['chart_version']}",
                "app_version": each["chart_version"],
            }
            for each in releases
            if any(f"--{state}" in self._options and each["status"].startswith(state) for state in _STATES)
            or (
                not any(f"--{state}" in self._options for state in _STATES) and each["status"] in ("deployed", "failed")
            )
        ]
        say(json.dumps(shown))

    def status(self, name: str) -> None:
        history = self.history(name)
        if not history:
            fail("release: not found")
        last = history[-1]
        info = {"first_deployed": _TIME, "last_deployed": _TIME, "deleted": "", "status": last["status"]}
        about = {key: last[key] for key in ("name", "namespace", "version")}
        say(json.dumps({**about, "info": {**info, "description": "a stand-in"}}))

    # what it keeps

    def history(self, name: str) -> list[Tree]:
        """Every revision of a release, the oldest first."""
        path = f"/api/v1/namespaces/{self._namespace}/secrets?labelSelector={quote(f'owner=helm,name={name}')}"
        listed = self._cluster.must("GET", path, missing=True)
        return sorted(map(unpacked, listed.get("items", [])), key=lambda each: int(each["version"]))

    def latest(self, namespace: str) -> list[Tree]:
        inside = f"/namespaces/{namespace}" if namespace else ""
        listed = self._cluster.must("GET", f"/api/v1{inside}/secrets?labelSelector={quote('owner=helm')}")
        found: dict[tuple[str, str], Tree] = {}
        for each in sorted(map(unpacked, listed["items"]), key=lambda one: int(one["version"])):
            found[each["namespace"], each["name"]] = each
        return [found[key] for key in sorted(found, key=lambda key: key[1])]

    def keep(self, release: Tree) -> None:
        labels = {
            "owner": "helm",
            "name": release["name"],
            "status": release["status"],
            "version": str(release["version"]),
        }
        data = base64.b64encode(base64.b64encode(json.dumps(release).encode())).decode()
        name = self.secret_path(release).rpartition("/")[2]
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self._namespace, "labels": labels},
            "type": "helm.sh/release.v1",
            "data": {"release": data},
        }
        self._cluster.apply(self.secret_path(release), secret)

    def secret_path(self, release: Tree) -> str:
        name = f"sh.helm.release.v1.{release['name']}.v{release['version']}"
        return f"/api/v1/namespaces/{self._namespace}/secrets/{name}"

    # what a chart makes

    def deployments(self) -> str:
        return f"/apis/apps/v1/namespaces/{self._namespace}/deployments"

    def deploy(self, name: str, chart: str, version: str) -> None:
        labels = {"app.kubernetes.io/instance": name, "app.kubernetes.io/name": chart}
        container = {"name": "controller", "image": f"stand-in.invalid/{chart}:{version}"}
        managed = {**labels, "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/version": version}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": self._namespace, "labels": managed},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }
        self._cluster.apply(f"{self.deployments()}/{name}", deployment)

    def is_ready(self, name: str) -> bool:
        status = self._cluster.must("GET", f"{self.deployments()}/{name}").get("status") or {}
        return bool(status.get("readyReplicas"))


def unpacked(secret: Tree) -> Tree:
    found: Tree = json.loads(base64.b64decode(base64.b64decode(secret["data"]["release"])))
    return found


def read(path: Path) -> Tree:
    """A file of JSON or YAML."""
    try:
        text = path.read_text()
    except OSError as error:
        fail(str(error))
    try:
        found: Tree = json.loads(text)
    except ValueError:
        import yaml

        found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    return found


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def fail(message: str) -> NoReturn:
    sys.stderr.write(f"Error: {message}\n")
    sys.exit(1)
