"""A cluster's API: discovery, get, list, server-side apply, delete. The home of lightkube, which reads the kubeconfig
and signs in (a pod signs in by itself); requests are plain REST, since objects are of any kind and stay what they are.

What may work later (no connection, 429, 5xx) is tried again here, and only then raised as Unavailable: every call is
one that may be done twice. It knows nothing of waves or plans.
"""

import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from stoker.base.errors import Conflict, InvalidInput, NotFound, NotPermitted, StokerError, Unauthenticated, Unavailable
from stoker.policy.retry import delay_s

Tree = dict[str, Any]
MANAGER = "stoker"
"""The one field manager of all that `stoker deploy` applies."""
_TRIES = 6
_LATER = (408, 429, 500, 502, 503, 504)
_PAGE = 500


@dataclass(frozen=True)
class Key:
    """Names one object. `namespace` is empty for what is in none."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """The same object in whichever version it is written."""
        return self.group, self.kind, self.namespace, self.name


def key_of(obj: Mapping[str, Any]) -> Key:
    meta = obj["metadata"]
    return Key(obj["apiVersion"], obj["kind"], meta.get("namespace", ""), meta["name"])


class NotServed(NotFound):
    """The cluster does not know the kind: the controller that brings it is not installed."""

    code = "kind_not_served"


class FieldConflict(Conflict):
    """Another field manager holds what was to be applied. `causes`: (manager, field) each."""

    code = "field_conflict"

    def __init__(self, message: str, causes: list[tuple[str, str]], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.causes = causes


class Rejected(InvalidInput):
    """The API server refuses the object: a schema, a policy, an immutable field."""

    exit_code = 1


@dataclass(frozen=True)
class _Resource:
    plural: str
    namespaced: bool


class Cluster:
    """One cluster. `sleep` and `random` are for tests."""

    def __init__(self, http: Any, *, sleep: Callable[[float], None] = time.sleep, random: Random | None = None) -> None:
        self._http = http
        self._sleep = sleep
        self._random = random or Random()
        self._served: dict[str, dict[str, _Resource]] = {}

    def close(self) -> None:
        self._http.close()

    def version(self) -> str:
        """As the server says it, such as v1.34.1-eks-113cf36."""
        return str(self._call("GET", "/version").get("gitVersion", "unknown"))

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether the cluster knows the kind now. What it did not know a moment ago is asked again."""
        if kind not in self._served.get(api_version, {}):
            self._served.pop(api_version, None)
        return kind in self._kinds(api_version)

    def get(self, key: Key) -> Tree | None:
        """The object as it is; None where it is not, or no such kind is."""
        try:
            return self._call("GET", self._path(key))
        except NotFound:
            return None

    def list(self, api_version: str, kind: str, *, namespace: str = "", labels: str = "") -> Iterator[Tree]:
        """All of a kind, of one namespace or of all; none where no such kind is."""
        query: dict[str, Any] = {"limit": _PAGE}
        if labels:
            query["labelSelector"] = labels
        while True:
            try:
                page = self._call("GET", self._collection(api_version, kind, namespace), query=query)
            except NotFound:
                return
            for each in page.get("items", []):
                yield {"apiVersion": api_version, "kind": kind, **each}
            query["continue"] = page.get("metadata", {}).get("continue")
            if not query["continue"]:
                return

    def apply(self, obj: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> Tree:
        """Server-side apply as `MANAGER`. The object as it is afterwards; with `dry_run`, as it would be.

        Raises FieldConflict where another manager holds a field and not `force`, Rejected where the server refuses the
        object, NotServed for a kind that is not there, and NotFound for a namespace that is not there."""
        query = {"fieldManager": MANAGER, "force": "true" if force else "false", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return self._call("PATCH", self._path(key_of(obj)), query=query, body=obj, what=str(key_of(obj)))

    def create(self, obj: Mapping[str, Any]) -> Tree:
        """Raises Conflict where it is there already."""
        key = key_of(obj)
        path = self._collection(key.api_version, key.kind, key.namespace)
        return self._call("POST", path, query={"fieldManager": MANAGER}, body=obj, what=str(key))

    def replace(self, obj: Mapping[str, Any]) -> Tree:
        """Raises Conflict where its resourceVersion is no longer the object's."""
        key = key_of(obj)
        return self._call("PUT", self._path(key), query={"fieldManager": MANAGER}, body=obj, what=str(key))

    def merge(self, key: Key, patch: Mapping[str, Any]) -> Tree:
        """A JSON merge patch."""
        kind = "application/merge-patch+json"
        return self._call("PATCH", self._path(key), query={"fieldManager": MANAGER}, body=patch, content=kind)

    def delete(self, key: Key) -> bool:
        """Whether it was there. What it owns goes before it ("Foreground"), so that it is gone when that is."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        try:
            self._call("DELETE", self._path(key), body=options, what=str(key))
        except NotFound:
            return False
        return True

    # REST

    def _collection(self, api_version: str, kind: str, namespace: str) -> str:
        resource = self._resource(api_version, kind)
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        inside = f"/namespaces/{quote(namespace, safe='')}" if namespace and resource.namespaced else ""
        return f"{root}{inside}/{resource.plural}"

    def _path(self, key: Key) -> str:
        return f"{self._collection(key.api_version, key.kind, key.namespace)}/{quote(key.name, safe='')}"

    def _resource(self, api_version: str, kind: str) -> _Resource:
        if not self.serves(api_version, kind):
            raise NotServed(
                f"the cluster knows no {kind} of {api_version}",
                hint="install what brings it; `stoker deploy` does, unless deploy.controllers is false",
            )
        return self._served[api_version][kind]

    def _kinds(self, api_version: str) -> dict[str, _Resource]:
        found = self._served.get(api_version)
        if found is None:
            root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
            try:
                listed = self._call("GET", root).get("resources", [])
            except NotFound:
                return {}
            found = {
                each["kind"]: _Resource(each["name"], bool(each.get("namespaced")))
                for each in listed
                if "/" not in each["name"]
            }
            self._served[api_version] = found
        return found

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content: str | None = None,
        what: str = "",
    ) -> Tree:
        import httpx2

        if content is None:
            content = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": content}
        sign_in_errors = _sign_in_errors()
        why = ""
        for attempt in range(1, _TRIES + 1):
            try:
                response = self._http.request(method, path, params=query, json=body, headers=headers)
            except httpx2.TransportError as error:
                why = f"{type(error).__name__}: {error}".rstrip(": ")
            except sign_in_errors as error:
                raise _not_signed_in(error) from error
            else:
                if response.status_code < 400:
                    return _tree(response)
                if response.status_code not in _LATER:
                    raise _error(response.status_code, _tree(response), what or path)
                why = f"{response.status_code} {_tree(response).get('message', '')}".strip()
            if attempt < _TRIES:
                self._sleep(delay_s(attempt, base_s=0.2, cap_s=5.0, random=self._random))
        raise Unavailable(
            f"the cluster's API does not answer: {why[:300]}",
            hint="is it reachable from here (deploy.network.publicAccess, a VPN)? Doing it again goes on from here",
        )


def connect(kubeconfig: Path, context: str, **hands: Any) -> Cluster:
    """The cluster of a context. Raises InvalidInput where the kubeconfig cannot be read or does not have it, or where
    lightkube is not installed."""
    try:
        import httpx2
        from lightkube import KubeConfig
        from lightkube.config.client_adapter import Client, ConnectionParams
        from lightkube.core.exceptions import ConfigError
    except ImportError as error:
        raise InvalidInput("deploying needs lightkube", hint="pip install 'stoker[deploy]'") from error
    try:
        config = KubeConfig.from_file(kubeconfig)
    except Exception as error:  # whatever is in the file: no YAML, a list, bytes, types that do not fit
        raise _unusable(kubeconfig, f"{type(error).__name__}: {str(error)[:300]}") from error
    if context not in config.contexts:
        raise InvalidInput(
            f'the kubeconfig {kubeconfig} has no context "{context}", which deploy.context names',
            param="deploy.context",
            hint=f"it has: {', '.join(sorted(config.contexts)) or 'none'}",
        )
    try:
        chosen = config.get(context)
        assert chosen is not None  # noqa: S101 - only without a context and a default
        return Cluster(Client(chosen, ConnectionParams(timeout=httpx2.Timeout(30.0))), **hands)
    except KeyError as error:
        raise _unusable(kubeconfig, f"it has no {error}, which the context names") from error
    except (ConfigError, OSError, ValueError) as error:  # certificates and keys that are not there, or are none
        raise _unusable(kubeconfig, str(error)[:300]) from error


SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect_in_pod(environ: Mapping[str, str] = os.environ, account: Path = SERVICE_ACCOUNT, **hands: Any) -> Cluster:
    """The cluster in which this process runs, as its pod's ServiceAccount. Raises InvalidInput outside of a pod.

    Source: Kubernetes' documentation, "Accessing the Kubernetes API from a Pod". The kubelet writes a new token into
    the file before the old one ends, so it is read for each request."""
    import httpx2

    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise InvalidInput(
            "this process runs in no pod: KUBERNETES_SERVICE_HOST is not set",
            hint="name a kubeconfig and a context of it",
        )

    def sign(request: httpx2.Request) -> httpx2.Request:
        request.headers["Authorization"] = f"Bearer {(account / 'token').read_text('ascii').strip()}"
        return request

    try:
        trusted = ssl.create_default_context(cafile=str(account / "ca.crt"))
    except OSError as error:
        raise InvalidInput(
            f"the ServiceAccount's files in {account} cannot be read: {error}",
            hint="the pod needs automountServiceAccountToken: true",
        ) from error
    address = f"[{host}]" if ":" in host else host
    http = httpx2.Client(base_url=f"https://{address}:{port}", verify=trusted, auth=sign, timeout=30.0, trust_env=False)
    return Cluster(http, **hands)


def _sign_in_errors() -> tuple[type[Exception], ...]:
    """Of plug-ins for credentials and files that are not there; lightkube's own, where it is installed."""
    try:
        from lightkube.core.exceptions import ConfigError
    except ImportError:
        return OSError, ValueError, KeyError
    return ConfigError, OSError, ValueError, KeyError


def _unusable(kubeconfig: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"the kubeconfig {kubeconfig} cannot be used: {why}",
        param="deploy.context",
        hint="`kubectl config view` shows whether kubectl can read it",
    )


def _tree(response: Any) -> Tree:
    try:
        found = response.json()
    except ValueError:
        return {"message": response.text[:300]}
    return found if isinstance(found, dict) else {"message": str(found)[:300]}


def _error(code: int, status: Tree, what: str) -> StokerError:
    said = str(status.get("message") or f"HTTP {code}")[:2000]
    if code == 401:
        return Unauthenticated("the cluster does not know who asks", hint="are the credentials of the context valid?")
    if code == 403:
        return NotPermitted(f"{what}: {said}")
    if code == 404:
        return NotFound(f"{what}: {said}")
    causes = [
        (_manager(str(cause.get("message", ""))), str(cause.get("field", "")))
        for cause in status.get("details", {}).get("causes", [])
        if cause.get("reason") == "FieldManagerConflict"
    ]
    if code == 409 and causes:
        held = ", ".join(f"{field} by {manager}" for manager, field in causes[:5])
        return FieldConflict(
            f"{what}: others hold what is to be applied: {held}",
            causes,
            hint="let them go, change platform.yaml to what they say, or take it back with --force-conflicts",
        )
    if code == 409:
        return Conflict(f"{what}: {said}")
    return Rejected(f"{what} is refused: {said}")


def _manager(message: str) -> str:
    """Of `conflict with "kubectl-edit" using apps/v1`."""
    return message.split('"')[1] if message.count('"') >= 2 else message or "somebody else"


def _not_signed_in(error: Exception) -> StokerError:
    """What a plug-in for credentials says: its error is no error of HTTP."""
    return Unauthenticated(
        f"signing in to the cluster failed: {type(error).__name__}: {str(error)[:300]}",
        hint="does the command of the kubeconfig's user work (aws eks get-token)?",
    )
