"""What schemathesis cannot know of the platform that it asks: which names there are, and which keys and which file it
must not end.
"""

import os
from typing import Any

import schemathesis

# The keys with which the run itself asks: one that was revoked or rotated would end it. And the file for its batches.
KEEP = frozenset(os.environ.get("SCHEMA_KEEP", "").split())
FILE = os.environ.get("SCHEMA_FILE", "")


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Names that are there, so that requests get further than "there is no such model"."""
    known = raw_schema["components"]["schemas"]
    for name in ("ChatRequest", "CompletionRequest", "ResponseRequest", "EmbeddingRequest"):
        known[name]["properties"]["model"] = {"enum": ["auto", "general", "gpt-4o", None]}
    known["NewKey"]["properties"]["models"]["items"] = {"enum": ["general"]}
    known["KeyPatch"]["properties"]["models"]["items"] = {"enum": ["general"]}
    for name in ("NewKey", "KeyPatch"):
        known[name]["properties"]["routes"]["items"] = {"enum": ["general"]}
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["name"] == "route":
                    parameter["schema"] = {"enum": ["general"]}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 9) if isinstance(value, float) and 1e-9 <= value < 1e6 else value


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    parameters = case.path_parameters or {}
    if parameters.get("id") in KEEP and case.method != "GET":
        parameters["id"] = "one_that_is_none"
    if case.path == "/v1/batches" and isinstance(case.body, dict):
        case.body = _of_a_file_that_is_there(case.body)
    if "/admin/" in case.path and isinstance(case.body, dict):
        case.body = _as_only_time_and_words_can_tell(case.body)


def _of_a_file_that_is_there(body: dict[str, Any]) -> dict[str, Any]:
    """Nobody can make up the id of a file. One that was uploaded in this sequence stays."""
    id = body.get("input_file_id")
    is_made_up = isinstance(id, str) and not id.startswith("file-")
    return {**body, "input_file_id": FILE} if is_made_up else body


def _as_only_time_and_words_can_tell(body: dict[str, Any]) -> Any:
    """What a schema cannot say: amounts have nine decimals at most, and a key expires in the future."""
    time = body.get("expires_at")
    if isinstance(time, int | float) and not isinstance(time, bool) and 0 <= time < 2e9:
        body = {**body, "expires_at": time + 2e9}
    return _rounded(body)
