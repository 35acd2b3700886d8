"""A Secret with its value in the manifest.

Base64 is no encryption: who reads the file, the repository or its history has the value. A placeholder is applied as
it stands, overwrites the right value in the cluster, and everything that uses it is refused.

Symptom: WRONGPASS invalid username-password pair after an apply that changed something else

Wrong:

    apiVersion: v1
    kind: Secret
    metadata: {name: redis}
    stringData:
      password: <redis-password>

Right:

    apiVersion: external-secrets.io/v1
    kind: ExternalSecret
    metadata: {name: redis}
    spec:
      refreshInterval: 1h
      secretStoreRef: {name: aws, kind: SecretStore}
      target: {name: redis}
      data:
      - secretKey: password
        remoteRef: {key: prod/redis, property: password}

Source: Kubernetes documentation, Good practices for Kubernetes Secrets
Source: guide-errors W08
"""

import base64
import binascii
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._secrets import PLACEHOLDER, by_form
from stoker.manifests.objects import Manifest, filled_in_later, texts

_PUBLIC = (".crt", ".pub", "ca.pem", "username", "user", "host", "port", "endpoint", "region", "namespace")
_PUBLIC_NAMES = ("ca", "cert", "tls", "sasl", "scopes", "protocol", "mode", "database", "dbname")
_ADDRESSES = ("uri", "url")
_HINT = "an ExternalSecret (or SealedSecret, SOPS, the Secrets Store CSI driver) that fetches it"


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("Secret", group=""):
        if manifest.get("type") in ("kubernetes.io/service-account-token", "helm.sh/release.v1"):
            continue
        for section, key, value in _values(manifest):
            if _is_public(key.lower(), value):
                continue
            if PLACEHOLDER.search(value.strip()):
                message = f"{key} is the placeholder {value.strip()[:60]!r}: applied, it overwrites the real value"
            else:
                message = f"{key} stands in the manifest, readable for everyone who can read the file"
            yield Problem(manifest, (section, key), message, hint=_HINT)


def _is_public(key: str, value: str) -> bool:
    """By its name, or an address without a password in it."""
    if key.endswith(_ADDRESSES):
        return value.startswith(("http://", "https://")) and not by_form(value)
    return key.endswith(_PUBLIC) or key in _PUBLIC_NAMES


def _values(manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    """Section, key and decoded value of what is written; not what is encrypted or filled in later."""
    for section in ("stringData", "data"):
        for key, value in texts(manifest.get(section)).items():
            text = value if section == "stringData" else _decoded(value)
            if text.strip() and not filled_in_later(text) and not filled_in_later(value) and "ENC[" not in value:
                yield section, key, text


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return value


RULE = Rule(
    "STK-SECURITY-004", Severity.WARNING, "A Secret with its value in the manifest", check, __name__, guide=("W08",)
)
