"""`GET /openapi.json`: the gateway's API as an OpenAPI 3.1 document, which needs no key and says nothing private.

Made of the list of operations (`openapi_operations`) and the named schemas (`openapi_schemas`); what the platform's
file decides (how large a body may be) is that of the platform at hand. The names of its models and prefixes are for
those with a key: `GET /v1/models`.
"""

from typing import Any

from stoker import __version__
from stoker.gateway import idempotency, sizes
from stoker.gateway import openapi_schemas as schemas
from stoker.gateway.openapi_operations import BYTES, JSON, OPERATIONS, Answer, Operation, statuses_of
from stoker.gateway.openapi_words import ref
from stoker.gateway.services import ID_PATTERN
from stoker.gateway.streams import EVENT_ID_PATTERN
from stoker.policy import images
from stoker.policy.fairness import PRIORITIES
from stoker.queue import cursors
from stoker.spec import Platform
from stoker.spec.section import NAME_PATTERN
from stoker.web import uploads
from stoker.web.parameters import documented
from stoker.web.server import MOST_DEPTH

Json = dict[str, Any]

_PATH_PARAMETERS: dict[str, Json] = {
    "id": {"description": "Its id.", "schema": {"type": "string", "minLength": 1}},
    "model": {"description": "Its name, which may have slashes in it.", "schema": {"type": "string", "minLength": 1}},
    "name": {"description": "The agent's name.", "schema": {"type": "string", "pattern": NAME_PATTERN}},
    "route": {"description": "A word of `gateway.routes`.", "schema": {"type": "string", "pattern": NAME_PATTERN}},
    "tenant": {"description": "Its name.", "schema": {"type": "string", "pattern": NAME_PATTERN}},
    "team": {"description": "Its name.", "schema": {"type": "string", "pattern": NAME_PATTERN}},
}
_HEADERS: dict[str, tuple[str, str, Json]] = {
    "session": ("X-Session-Id", "The session that it belongs to.", {"type": "string", "pattern": ID_PATTERN}),
    "run": ("X-Run-Id", "The agent run that it belongs to.", {"type": "string", "pattern": ID_PATTERN}),
    "resumable": (
        "X-Stoker-Resumable",
        "Whether a stream survives its connection.",
        {"type": "string", "enum": ["true", "false"]},
    ),
    "last-event": (
        "Last-Event-ID",
        "Go on after this event of such a stream: its `id`.",
        {"type": "string", "pattern": EVENT_ID_PATTERN},
    ),
    "last-chunk": (
        "Last-Event-ID",
        "Go on after this event of the task: its `id`.",
        {"type": "string", "pattern": cursors.PATTERN},
    ),
    "last-agent-event": (
        "Last-Event-ID",
        "Go on after this event of the run: its `id`.",
        {"type": "string", "pattern": "^[0-9]{1,15}$"},
    ),
    "once-begun": (
        "Idempotency-Key",
        "Sent again with the same key, the same request begins one run.",
        {"type": "string", "pattern": idempotency.PATTERN},
    ),
    "once": (
        "Idempotency-Key",
        "Sent again with the same key, the same request is done once, and is answered with what became of the first, "
        "and `Idempotent-Replayed: true`. It goes through the queue from its start.",
        {"type": "string", "pattern": idempotency.PATTERN},
    ),
    "prefer": (
        "Prefer",
        "`respond-async`: if no replica has room, answer with a task; with `wait=N`, wait N seconds for its end first "
        "(not for a stream). It is nothing for a resumable stream. RFC 7240: what else it says is nobody's preference.",
        {"type": "string", "examples": ["respond-async", "respond-async, wait=10"]},
    ),
    # Not an enum: it is looked at only by what has to wait, and what is answered at once is not refused for it.
    "priority": (
        "X-Stoker-Priority",
        f"With which priority it waits if no replica has room: {', '.join(PRIORITIES)}. Another word is 400 then.",
        {"type": "string", "examples": list(PRIORITIES)},
    ),
    "task-priority": (
        "X-Stoker-Priority",
        "With which priority it waits; goes before `priority` in the body.",
        {"type": "string", "enum": list(PRIORITIES)},
    ),
}
_SAID = {
    "Content-Disposition": "The name of the file.",
    "Location": "Where the task is.",
    "Preference-Applied": "What was done of `Prefer`, if anything was preferred.",
    "X-Request-Id": "The id of the request, and of its usage record, or of the record of what it changed.",
    "X-Stoker-Model": "The model that was chosen.",
    "X-Stoker-Route": "Why it was.",
    "X-Stoker-Replica": "Who answered, or `queue`.",
    "X-Stoker-Cost-Usd": "What it cost. Of a stream, the last event says it.",
}
# What OpenAPI says of one that answers too much at once, as a header that has to be there.
_RETRY_AFTER = {"Retry-After": {"description": "Seconds, never too few.", "schema": {"type": "integer", "minimum": 1}}}


def document(platform: Platform) -> Json:
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stoker", "version": __version__, "description": _about(platform)},
        "security": [{"key": []}],
        "tags": [
            {"name": "inference", "description": "OpenAI's API: any of its SDKs works with this URL and a key."},
            {"name": "tasks", "description": "Work that may wait, and is never lost."},
            {"name": "agents", "description": "Runs of agents, which go on after a crash and stop at their limits."},
            {"name": "batches", "description": "OpenAI's files, and many requests in one of them."},
            {"name": "admin", "description": "For who looks after the platform: an admin's key only."},
            {"name": "health", "description": "No key needed."},
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "`sk-stoker-...`"}},
            "schemas": {**schemas.schemas(), "OpenApi": {"type": "object", "required": ["openapi", "paths"]}},
            "responses": {f"Refused{status}": _refusal(status, platform) for status in _REFUSALS},
        },
    }


def _about(platform: Platform) -> str:
    most_bytes = platform.gateway.max_body_bytes
    return "\n".join(
        [
            "Models to call, with hard budgets. Errors have OpenAI's shape; the message says what would be right. HEAD "
            "is possible wherever GET is.",
            "",
            f"One request: a URL of {uploads.MOST_URL_BYTES} bytes (414), {uploads.MOST_HEADERS} headers and "
            f"{uploads.MOST_HEAD_BYTES} bytes of head (431), a body of {most_bytes} bytes (413), or of "
            f"{platform.queue.max_body_bytes} if it has to wait, or a file of {platform.gateway.files.max_file_bytes}; "
            f"objects and arrays {MOST_DEPTH} deep; "
            f"{sizes.MOST_ITEMS} messages or items, "
            f"{sizes.MOST_TEXTS} prompts or texts to embed, {sizes.MOST_PARTS} parts of a message, "
            f"{sizes.MOST_IMAGES} pictures of {images.MAX_BYTES} bytes and {images.MAX_PIXELS} pixels each, "
            f"{sizes.MOST_TOOLS} tools, {sizes.MOST_STOPS} stop texts of {sizes.MOST_STOP_CHARACTERS} characters: at "
            "most (400). An engine may take less. Nothing is ever fetched from a URL in a body.",
        ]
    )


def _operation(operation: Operation) -> Json:
    said: Json = {
        "operationId": operation.id,
        "summary": operation.what,
        "tags": [operation.group],
        "parameters": [*_path_parameters(operation), *_headers(operation), *documented(operation.query)],
        "responses": {
            **{str(status): _answer(answer, operation) for status, answer in operation.answers.items()},
            **{str(status): _refused(status) for status in statuses_of(operation)},
        },
    }
    if operation.more:
        said["description"] = operation.more
    if operation.who == "nobody":
        said["security"] = []
    if operation.takes is not None:
        said["requestBody"] = {
            "required": not operation.may_be_empty,
            "content": {operation.media: {"schema": ref(operation.takes)}},
        }
    return said


def _path_parameters(operation: Operation) -> list[Json]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, **_PATH_PARAMETERS[name]} for name in names]


def _headers(operation: Operation) -> list[Json]:
    return [
        {"name": name, "in": "header", "description": what, "schema": schema}
        for name, what, schema in (_HEADERS[one] for one in operation.headers)
    ]


def _answer(answer: Answer, operation: Operation) -> Json:
    said: Json = {"description": answer.what}
    is_audited = operation.who == "admin" and operation.method != "GET"
    headers = ("X-Request-Id", *answer.headers) if is_audited else answer.headers
    if answer.schemas:
        said["content"] = {media: _content(media, name) for media, name in answer.schemas.items()}
    if headers:
        said["headers"] = {name: {"description": _SAID[name], "schema": {"type": "string"}} for name in headers}
    if answer.links:
        said["links"] = {id: _link(id, name, value) for id, (name, value) in answer.links.items()}
    return said


def _content(media: str, name: str | None) -> Json:
    if name is not None:
        return {"schema": ref(name)}
    return {} if media == BYTES else {"schema": {"type": "string"}}  # of bytes there is no schema


def _link(id: str, name: str, value: str) -> Json:
    if name.startswith("body."):
        return {"operationId": id, "requestBody": {name.removeprefix("body."): value}}
    return {"operationId": id, "parameters": {name: value}}


# --- errors -----------------------------------------------------------------------------------------------------------

_REFUSALS = {
    400: "Something in it cannot be: `invalid_json`, `invalid_value` (`param` names it); more than one request may "
    "hold (`too_many`, `too_many_images`, `image_too_large`, `body_padded`); no picture (`invalid_image`, "
    "`invalid_base64_image`), or one that somebody would have to fetch (`image_urls_not_allowed`); a request that "
    "never fits its budget (`request_over_budget`); no form with a file (`invalid_form`); no such input of a batch "
    "(`file_not_found`).",
    401: "No key, one that nobody issued, or one that was revoked or has expired: `invalid_api_key`.",
    402: "A budget that does not renew has too little left: `budget_exhausted`. There is no use in asking again.",
    403: "The key may not do this: `not_permitted`, or work with such a priority: `priority_not_permitted`.",
    404: "There is no such thing, or it is another tenant's: `not_found`, `model_not_found`, `task_not_found`, "
    "`file_not_found`, `batch_not_found`, ...; there are no agents here: `agents_not_enabled`.",
    408: "The body did not come in time: `request_timeout`. The connection is closed.",
    409: "It is not in a state that allows this: `conflict`, `not_dead`, `stream_restarted`, ...",
    410: "It is over, and its events are not kept any more: `stream_gone`.",
    413: "A file is too large: `too_large`, or all files of its tenant are: `files_full`. Another body is: "
    "`too_large`; the largest has {bytes} bytes.",
    414: "The URL is too long: `url_too_long`. The connection is closed.",
    422: "An `Idempotency-Key` that was sent with another request before: `idempotency_key_reused`.",
    429: "A limit or a budget says no, for now: `usd_budget_exceeded`, `too_many_requests`, ...; as many requests and "
    "tasks wait as may: `queue_full`; no replica has room, and its tenant has `whenBusy: refuse`: `no_room`; as many "
    "batches are open as may be: `too_many_batches`.",
    431: "The head is too large, or has too many lines: `head_too_large`. The connection is closed.",
    500: "A fault of ours: `internal_error`. The log has the details.",
    502: "An engine answered with something that is no answer: `upstream_error`.",
    503: "Not now: `budgets_unavailable`, `ledger_unavailable`, `queue_unavailable`, `agents_unavailable`, ...",
    504: "Out of time: `timeout`, `deadline_exceeded`.",
}


def _refused(status: int) -> Json:
    return {"$ref": f"#/components/responses/Refused{status}"}


def _refusal(status: int, platform: Platform) -> Json:
    said: Json = {
        "description": _REFUSALS[status].replace("{bytes}", str(platform.gateway.max_body_bytes)),
        "content": {JSON: {"schema": ref("Error")}},
    }
    if status in (429, 503):
        said["headers"] = _RETRY_AFTER
    return said
