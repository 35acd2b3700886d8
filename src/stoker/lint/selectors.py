"""Label selectors, as Kubernetes reads them."""

from typing import Any

from stoker.manifests.objects import sections, texts


def selects(selector: Any, labels: dict[str, str]) -> bool:
    """Whether a label selector matches. An empty one matches everything, one that is missing nothing."""
    if not isinstance(selector, dict):
        return False
    if any(labels.get(key) != value for key, value in texts(selector.get("matchLabels")).items()):
        return False
    return all(_holds(each, labels) for _, each in sections(selector.get("matchExpressions")))


def _holds(line: dict[str, Any], labels: dict[str, str]) -> bool:
    key, values = line.get("key"), line.get("values")
    listed = values if isinstance(values, list) else []
    found = labels.get(key) if isinstance(key, str) else None
    match line.get("operator"):
        case "In":
            return found in listed
        case "NotIn":
            return found not in listed
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
    return False
