"""What Stoker's own ConfigMap says: the platform as `stoker render` wrote it for the processes in the cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stoker.manifests.documents import parse
from stoker.manifests.objects import Manifest, look, whole

_KEY = "platform.yaml"


@dataclass(frozen=True)
class Platform:
    """Empty where there is no such ConfigMap."""

    region: str = ""
    zones: tuple[str, ...] = ()
    mode: str = ""
    """`karpenter`, `auto` or `hybrid`."""
    default_model: str = ""
    concurrency: Mapping[str, int] = field(default_factory=dict)
    """By model: how many tasks its worker has at once."""
    context_tokens: Mapping[str, int] = field(default_factory=dict)


def platform(manifests: Sequence[Manifest]) -> Platform:
    for each in manifests:
        text = each.get("data", _KEY)
        if each.kind != "ConfigMap" or not isinstance(text, str):
            continue
        documents, troubles = parse(text, _KEY)
        if documents and not troubles and isinstance(documents[0].data, dict):
            return _platform(documents[0].data)
    return Platform()


def _platform(tree: dict[str, Any]) -> Platform:
    cluster = look(tree, "global", "cluster")
    zones = look(cluster, "zones")
    default = _text(look(tree, "gateway", "defaultModel"))
    # A default may name a route (`general`), which leads to a model.
    default = _text(look(tree, "gateway", "routes", default)) or default
    return Platform(
        region=_text(look(cluster, "region")),
        zones=tuple(str(zone) for zone in zones) if isinstance(zones, list) else (),
        mode=_text(look(cluster, "mode")),
        default_model=default,
        concurrency=_limits(tree, "concurrency"),
        context_tokens=_limits(tree, "contextTokens"),
    )


def _limits(tree: dict[str, Any], key: str) -> dict[str, int]:
    models = look(tree, "llm", "models")
    found = {}
    for name, model in models.items() if isinstance(models, dict) else ():
        number = whole(look(model, "limits", key))
        if number is not None and number > 0:
            found[str(name)] = number
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
