"""Requests to the cluster's stand-in, as plain as they come, for tests that look at single answers."""

import http.client
import json
import ssl
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit

from stoker.testing.kubernetes import ApiServer, certificates, server

Tree = dict[str, Any]
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class Client:
    def __init__(self, api: ApiServer, token: str = server.TOKEN) -> None:
        where = urlsplit(api.url)
        context = ssl.create_default_context(cadata=certificates.pem()[0])
        self._http = http.client.HTTPSConnection(where.hostname or "", where.port, timeout=20, context=context)
        self._token = token
        self.warnings: list[str] = []
        """Of the last answer."""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: type[BaseException] | TracebackType | BaseException | None) -> None:
        self._http.close()

    def ask(
        self, method: str, path: str, body: Any = None, content: str = "application/json", **query: Any
    ) -> tuple[int, Tree]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content, "User-Agent": "tests/1"}
        url = f"{path}?{urlencode(query)}" if query else path
        self._http.request(method, url, None if body is None else json.dumps(body), headers)
        answer = self._http.getresponse()
        self.warnings = answer.headers.get_all("Warning") or []
        return answer.status, json.loads(answer.read() or b"{}")

    def apply(self, path: str, obj: Tree, manager: str = "stoker", **query: Any) -> tuple[int, Tree]:
        return self.ask("PATCH", path, obj, APPLY, fieldManager=manager, fieldValidation="Strict", **query)


def config_map(name: str = "a", **data: str) -> Tree:
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def deployment(name: str = "web", image: str = "web:1", **spec: Any) -> Tree:
    labels = {"app": name}
    pods = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": pods, **spec},
    }


CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
