"""A placeholder that was not replaced.

The object is valid and is applied as it stands: an image that cannot be pulled, a role that does not exist, a message
to nobody.

Symptom: ImagePullBackOff; not authorized to perform sts:AssumeRoleWithWebIdentity

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - {name: server, image: "XXXXXXXXXXXX.dkr.ecr.us-west-2.amazonaws.com/chat:v1.0.0"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - {name: server, image: "111122223333.dkr.ecr.us-west-2.amazonaws.com/chat:v1.0.0"}

Source: awsdocs: 123456789012 and 111122223333 are accounts of the documentation
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._placeholders import is_example_account, placeholder
from stoker.lint.rules.security._secrets import by_form, by_name
from stoker.manifests.objects import Manifest
from stoker.spec.faults import Path

# Where such words are prose or code, or another rule speaks.
_NOT_IN = {
    "Secret": ("data", "stringData"),
    "ConfigMap": ("data", "binaryData"),
    "CustomResourceDefinition": ("spec",),
}
_PROSE = ("description", "command", "args", "summary", "userData", "query", "expr", "x-kubernetes-validations")
_DEPTH = 40


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.manifests:
        if manifest.kind.endswith("List") and "items" in manifest.data:
            continue  # its items are manifests of their own
        skipped = _NOT_IN.get(manifest.kind, ())
        for key, value in manifest.data.items():
            if key not in skipped and isinstance(key, str):
                for path, text, name in _texts(value, (key,), ""):
                    yield from _judged(manifest, path, text, name)


def _judged(manifest: Manifest, path: Path, text: str, name: str) -> Iterator[Problem]:
    found = placeholder(text)
    if found and not by_form(text) and not by_name(name, text):
        yield Problem(
            manifest,
            path,
            f"{found} was not replaced: it is applied as it stands",
            hint="the real value, or a variable that is filled in before",
        )
    elif not found and is_example_account(text):
        yield Problem(
            manifest,
            path,
            "123456789012 is the account of AWS' documentation",
            hint="your account",
            severity=Severity.INFO,
        )


def _texts(tree: Any, path: Path, name: str) -> Iterator[tuple[Path, str, str]]:
    """Every text with its path and the name of the variable that it is the value of, not into what is embedded."""
    if isinstance(tree, str):
        yield path, tree, name
    elif len(path) > _DEPTH:
        return
    elif isinstance(tree, dict):
        own = tree.get("name")
        variable = own if isinstance(own, str) and "value" in tree else ""
        for key, value in tree.items():
            embedded = key == "template" and isinstance(value, dict) and "apiVersion" in value
            if isinstance(key, str) and key not in _PROSE and not embedded:
                yield from _texts(value, (*path, key), variable)
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from _texts(value, (*path, i), "")


RULE = Rule("STK-SECURITY-026", Severity.WARNING, "A placeholder that was not replaced", check, __name__)
