"""Names, labels, images and values: what every object has, whatever its kind."""

import importlib.util
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from whole import OUTSIDE_NAMESPACES, Output, sections, strings

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PLACEHOLDER = re.compile(
    r"\b(?i:change.?me|placeholder|todo|fixme|your[-_][a-z]+|x{4,})\b|\bREPLACE_|<[A-Z][A-Z_ -]+>|\b123456789012\b"
)
_FLOATING = re.compile(r"(:|@)latest\b")
_SECRET = re.compile(r"password|secret|token|api_?key|credential", re.IGNORECASE)
_NO_SECRET = re.compile(r"_(FILE|PATH|NAME|ENV|TTL|URL_ENV)$|^TOKENIZERS_|_TOKENS$")
_MODULE = re.compile(r"python3? -m ([a-z_]+(?:\.[a-z_]+)*)")
_WITH_POD_NAMES = ("StatefulSet", "Deployment", "DaemonSet", "Job", "CronJob", "LeaderWorkerSet", "TrainJob", "Rollout")


def problems(output: Output) -> Iterator[str]:
    yield from _names(output)
    yield from _labels(output)
    yield from _values(output)
    yield from _commands(output)


def _names(output: Output) -> Iterator[str]:
    counted = Counter((each.group, each.kind, each.namespace, each.name) for each in output.objects)
    for key, number in counted.items():
        if number > 1:
            yield f"{number} objects are {key}"
    for each in output.objects:
        if len(each.name) > 63:
            yield f"{each}: its name has {len(each.name)} characters"
        if not all(_LABEL.fullmatch(part) for part in each.name.split(".")) and "rbac" not in each.group:
            yield f"{each}: its name is no DNS name"
        if each.kind == "Service" and not _SERVICE.fullmatch(each.name):
            yield f"{each}: its name is no name of a Service"
        if each.kind in _WITH_POD_NAMES and "." in each.name:
            yield f"{each}: a name with a dot is no host name of a pod"
        if each.kind in ("CronJob", "CronWorkflow") and len(each.name) > 52:
            yield f"{each}: its name leaves no room for that of its jobs"
        if each.namespace and each.namespace not in output.namespaces | OUTSIDE_NAMESPACES:
            yield f"{each}: its namespace is not among those rendered"
        if len(each.namespace) > 63:
            yield f"{each}: its namespace has {len(each.namespace)} characters"
        for tree in sections(each.data):
            for key in ("containers", "initContainers", "volumes", "ports"):
                parts = tree.get(key)
                names = (
                    [part["name"] for part in parts if isinstance(part, dict) and "name" in part]
                    if isinstance(parts, list)
                    else []
                )
                most = 15 if key == "ports" and each.kind != "Service" else 63
                if len(names) != len(set(names)):
                    yield f"{each}: two {key} of one name among {names}"
                for name in names:
                    if not _LABEL.fullmatch(name) or len(name) > most:
                        yield f"{each}: {name} is no name of {key}"


def _labels(output: Output) -> Iterator[str]:
    for each in output.objects:
        for tree in sections(each.data):
            for key in ("labels", "matchLabels", "nodeSelector"):
                labels = tree.get(key)
                if not isinstance(labels, dict) or (
                    key == "labels" and each.kind == "PrometheusRule" and "alert" in tree
                ):
                    continue
                for name, value in labels.items():
                    if not isinstance(value, str) or "${" in value or "{{" in value:
                        continue
                    if not _KEY.fullmatch(name) or not _VALUE.fullmatch(value):
                        yield f"{each}: {name}: {value} is no label"


def _values(output: Output) -> Iterator[str]:
    for each in output.objects:
        if each.kind == "Secret" and (each.data.get("data") or each.data.get("stringData")):
            yield f"{each}: a Secret with values"
        for tree in sections(each.data):
            name, value = tree.get("name"), tree.get("value")
            if (
                isinstance(name, str)
                and value
                and _SECRET.search(name)
                and not _NO_SECRET.search(name)
                and name.isupper()
            ):
                yield f"{each}: {name} has a value, and sounds secret"
    for file, text in output.texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            for what, pattern in (("a floating version", _FLOATING), ("a placeholder", _PLACEHOLDER)):
                if said := pattern.search(line.partition(" # ")[0] if not line.startswith("#") else ""):
                    yield f"{file}:{number}: {what}: {said[0]} in {line.strip()[:80]}"
    for each in output.objects:
        for key, text in strings(each.data):
            if key == "image" and "{" not in text and ":" not in text.rpartition("/")[2] and "@sha256:" not in text:
                yield f"{each}: the image {text} has no version"


def _commands(output: Output) -> Iterator[str]:
    """`python -m` of a module that is there."""
    for pod in output.pods:
        for container in pod.containers:
            words = " ".join(str(word) for word in (*container.get("command", ()), *container.get("args", ())))
            for module in _MODULE.findall(words):
                if module.startswith("stoker") and not _is_module(module):
                    yield f"{pod}: there is no module {module}"


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
