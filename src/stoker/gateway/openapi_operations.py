"""Every operation of the gateway, one entry each: the list that the OpenAPI document is made of. Pure.

A route that is added to the gateway gets an entry here; a test holds this list and the routes equal, both ways.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stoker.gateway import accounts_api, admin, batches, costs_api, dead_letters_api, files, starts_api, tasks
from stoker.telemetry.metrics import CONTENT_TYPE
from stoker.web.parameters import Choice, Query, Text, whole

Json = dict[str, Any]
Who = Literal["nobody", "user", "admin"]
Header = Literal[
    "session",
    "run",
    "resumable",
    "last-event",
    "last-chunk",
    "last-agent-event",
    "once",
    "once-begun",
    "prefer",
    "priority",
    "task-priority",
]

JSON, EVENTS = "application/json", "text/event-stream"
FORM, BYTES = "multipart/form-data", "application/octet-stream"


@dataclass(frozen=True)
class Answer:
    """`schemas` by media type: names of `components.schemas`; None: text, or bytes."""

    what: str
    schemas: Mapping[str, str | None] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    links: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By the operation to go on with: its parameter (or `body.NAME`, a field of its body), and where in the answer its
    value stands."""


def json_of(schema: str, what: str, **more: Any) -> Answer:
    return Answer(what, {JSON: schema}, **more)


@dataclass(frozen=True)
class Operation:
    """`who` may call it. `refused`: the statuses of its errors, beside those that its kind has in any case, see
    `statuses_of`. `takes`: the schema of its body, which is of the type `media`; `may_be_empty`: or none."""

    method: str
    path: str
    id: str
    what: str
    who: Who
    answers: Mapping[int, Answer]
    refused: tuple[int, ...] = ()
    query: tuple[Query, ...] = ()
    headers: tuple[Header, ...] = ()
    takes: str | None = None
    media: str = JSON
    may_be_empty: bool = False
    more: str = ""

    @property
    def group(self) -> str:
        if self.path.startswith("/admin/v1/"):
            return "admin"
        if self.path.startswith("/v1/agents"):
            return "agents"
        if self.path.startswith(("/v1/files", "/v1/batches")):
            return "batches"
        return "health" if not self.path.startswith("/v1/") else "tasks" if "/tasks" in self.path else "inference"


def statuses_of(operation: Operation) -> list[int]:
    """Of its errors, in order: what it says itself, what its kind has, and what can be wrong with any head."""
    found = {*operation.refused, 400, 414, 431, 500}
    if operation.who != "nobody":
        found |= {401, 503}
    if operation.who == "admin":
        found.add(403)
    if operation.takes is not None:
        found |= {408, 413}
    return sorted(found - set(operation.answers))


_TASK_LINKS = dict.fromkeys(("showTask", "cancelTask", "adminShowTask", "retryTask"), ("id", "$response.body#/id"))
_FILE_LINKS = {
    **dict.fromkeys(("showFile", "downloadFile", "deleteFile"), ("id", "$response.body#/id")),
    "createBatch": ("body.input_file_id", "$response.body#/id"),
}
_BATCH_LINKS = dict.fromkeys(("showBatch", "cancelBatch"), ("id", "$response.body#/id"))
_KEY_LINKS = dict.fromkeys(("showKey", "changeKey", "rotateKey", "revokeKey"), ("id", "$response.body#/id"))
_TENANT_LINKS = dict.fromkeys(("showTenant", "changeTenant", "listTeams"), ("tenant", "$response.body#/name"))

RECEIPT = ("X-Request-Id", "X-Stoker-Model", "X-Stoker-Route", "X-Stoker-Replica", "X-Stoker-Cost-Usd")
_GENERATES = (402, 403, 404, 409, 410, 422, 429, 502, 504)
"""With 404 and 410 those of a stream that cannot be gone on with."""


def _generating(path: str, id: str, what: str, takes: str, gives: str, *, streams: bool = True) -> list[Operation]:
    """The endpoint under /v1, and under each prefix."""
    schemas: dict[str, str | None] = {JSON: gives, EVENTS: "Event"} if streams else {JSON: gives}
    ok = Answer("The answer, whole or as events." if streams else "The answer.", schemas, headers=RECEIPT)
    later = json_of(
        "Task",
        "No replica has room, so it is a task: by `Prefer: respond-async`, or its tenant's `whenBusy: async`.",
        headers=("Location", "Preference-Applied", *RECEIPT[:4]),
        links=_TASK_LINKS,
    )
    usual: tuple[Header, ...] = ("session", "run", "prefer", "priority", "once")

    def under(base: str, suffix: str, words: str) -> Operation:
        headers: tuple[Header, ...] = (*usual, "resumable", "last-event") if streams else usual
        return Operation(
            "POST",
            base + path,
            id + suffix,
            what + words,
            "user",
            {200: ok, 202: later},
            refused=_GENERATES,
            headers=headers,
            takes=takes,
            more="What the engine refuses has its own status (4xx) and its own words.",
        )

    return [under("/v1", "", "."), under("/v1/{route}", "OnRoute", ", by a model of this route.")]


_AGENT, _RUN = "/v1/agents/{name}", "/v1/agents/{name}/runs/{id}"
_RUN_LINKS = dict.fromkeys(("showRun", "cancelRun", "resumeRun", "followRun", "traceRun"), ("id", "$response.body#/id"))


def _of_agents(method: str, path: str, id: str, what: str, answer: Answer, status: int = 200, **more: Any) -> Operation:
    """Answered by the agents' service; the gateway passes it on."""
    refused = (403, 404, 504, *more.pop("refused", ()))
    return Operation(method, path, id, what, "user", {status: answer}, refused=refused, **more)


_AFTER = whole("after", 0, 10**9, 0, "Go on after the event with this id.")
_STATUSES = ("queued", "running", "waiting", "completed", "failed", "cancelled")
_AGENTS = (
    _of_agents("GET", "/v1/agents", "listAgents", "The agents.", json_of("Agents", "All of them.")),
    _of_agents("GET", _AGENT, "showAgent", "One of them.", json_of("Agent", "The agent.")),
    _of_agents(
        "POST",
        f"{_AGENT}/runs",
        "createRun",
        "Begin a run.",
        json_of("AgentRun", "It is queued.", headers=("Location",), links=_RUN_LINKS),
        202,
        takes="NewRun",
        headers=("once-begun", "prefer"),
        refused=(402, 409, 422, 429),
    ),
    _of_agents(
        "GET",
        f"{_AGENT}/runs",
        "listRuns",
        "Runs of the tenant, the newest first.",
        json_of("AgentRuns", "A page."),
        query=(
            Choice("status", _STATUSES, "Only those in this status."),
            Text("thread", "Only those of this thread."),
            whole("limit", 1, 100, 20, "How many at most."),
            Text("after", "Go on after the run with this id."),
        ),
    ),
    _of_agents(
        "GET",
        _RUN,
        "showRun",
        "A run, with what it used and what it waits for.",
        json_of("AgentRun", "The run."),
        query=(tasks.WAIT,),
        more="`/v1/agents/runs/{id}` is the same, and so it is below.",
    ),
    _of_agents(
        "POST",
        f"{_RUN}/cancel",
        "cancelRun",
        "Nobody wants it any more.",
        json_of("AgentRun", "The run."),
        refused=(409,),
    ),
    _of_agents(
        "POST",
        f"{_RUN}/resume",
        "resumeRun",
        "Answer what it waits for: each wait, or all of them alike.",
        json_of("AgentRun", "The run, which goes on."),
        takes="Resumption",
        refused=(409, 422),
    ),
    _of_agents(
        "GET",
        f"{_RUN}/events",
        "followRun",
        "What happens in it, from its beginning or after one that was seen.",
        Answer("Its events.", {EVENTS: "Event", JSON: "AgentEvents"}),
        query=(
            Text("format", "`json`: a page of those that there are, and no stream."),
            _AFTER,
            whole("limit", 1, 1000, 200, "Of a page: how many at most."),
        ),
        headers=("last-agent-event",),
    ),
    _of_agents(
        "GET",
        f"{_RUN}/ws",
        "runSocket",
        "The same over a WebSocket.",
        Answer("The connection is a WebSocket now."),
        101,
        query=(_AFTER,),
        more="404 without the handshake of a WebSocket.",
    ),
    _of_agents("GET", f"{_RUN}/trace", "traceRun", "Its spans.", json_of("Trace", "All there are by now.")),
    _of_agents(
        "GET",
        f"{_AGENT}/threads/{{id}}",
        "showThread",
        "A thread: its messages and its runs.",
        json_of("Thread", "The thread."),
    ),
    _of_agents(
        "DELETE",
        f"{_AGENT}/threads/{{id}}",
        "deleteThread",
        "Forget it.",
        json_of("Deleted", "It is gone."),
        refused=(409,),
    ),
    _of_agents(
        "POST",
        f"{_AGENT}/schedules",
        "createSchedule",
        "Begin a run again and again.",
        json_of("Schedule", "It is there."),
        201,
        takes="NewSchedule",
        refused=(409, 422),
    ),
    _of_agents(
        "GET", f"{_AGENT}/schedules", "listSchedules", "The tenant's schedules.", json_of("Schedules", "All of them.")
    ),
    _of_agents("DELETE", f"{_AGENT}/schedules/{{id}}", "deleteSchedule", "Stop it.", json_of("Deleted", "It is gone.")),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/health", "health", "Whether this process runs.", "nobody", {200: json_of("Health", "It does.")}),
    Operation(
        "GET",
        "/ready",
        "ready",
        "Whether each model has a replica.",
        "nobody",
        {200: json_of("Ready", "Each has one."), 503: json_of("Ready", "Some have none: `missing`.")},
    ),
    Operation(
        "GET", "/metrics", "metrics", "For Prometheus.", "nobody", {200: Answer("Metrics.", {CONTENT_TYPE: None})}
    ),
    Operation("GET", "/openapi.json", "openapi", "This document.", "nobody", {200: Answer("It.", {JSON: "OpenApi"})}),
    # --- inference --------------------------------------------------------------------------------------------------
    *_generating("/chat/completions", "chat", "Answer a chat", "ChatRequest", "ChatCompletion"),
    *_generating("/completions", "complete", "Go on with a text", "CompletionRequest", "Completion"),
    *_generating("/responses", "respond", "Answer, in the form of OpenAI's responses", "ResponseRequest", "Response"),
    *_generating("/embeddings", "embed", "Vectors of texts", "EmbeddingRequest", "Embeddings", streams=False),
    *(
        operation
        for base, suffix in (("/v1", ""), ("/v1/{route}", "OnRoute"))
        for operation in (
            Operation(
                "GET",
                f"{base}/models",
                f"listModels{suffix}",
                "What can be written as `model` here.",
                "user",
                {200: json_of("Models", "Models, aliases, and `auto`.")},
                refused=(403, 404) if suffix else (),
            ),
            Operation(
                "GET",
                f"{base}/models/{{model}}",
                f"showModel{suffix}",
                "One of them.",
                "user",
                {200: json_of("Model", "It is there.")},
                refused=(403, 404) if suffix else (404,),
            ),
        )
    ),
    Operation(
        "GET",
        "/v1/streams/{id}",
        "followStream",
        "Go on with a stream that was asked for as resumable.",
        "user",
        {200: Answer("Its events, from the beginning or after Last-Event-ID.", {EVENTS: "Event"})},
        refused=(404, 409, 410, 429, 502, 504),
        headers=("last-event",),
    ),
    Operation(
        "DELETE",
        "/v1/streams/{id}",
        "cancelStream",
        "Cancel such a stream.",
        "user",
        {200: json_of("Stream", "What became of it.")},
        refused=(404, 410),
    ),
    Operation(
        "GET",
        "/v1/ws",
        "webSocket",
        "Many requests over one WebSocket; docs/gateway.md has its messages.",
        "user",
        {101: Answer("The connection is a WebSocket now.")},
        refused=(404,),
        more="404 without the handshake of a WebSocket.",
    ),
    # --- tasks ------------------------------------------------------------------------------------------------------
    Operation(
        "POST",
        "/v1/tasks",
        "submitTask",
        "Work that may wait, for any of the endpoints.",
        "user",
        {202: json_of("Task", "It waits.", headers=("Location", *RECEIPT[:3]), links=_TASK_LINKS)},
        refused=(402, 403, 404, 422, 429, 504),
        headers=("session", "run", "task-priority", "once"),
        takes="TaskRequest",
    ),
    Operation(
        "GET",
        "/v1/tasks/{id}",
        "showTask",
        "A task, with its result when it is done.",
        "user",
        {200: json_of("TaskWithResult", "The task.")},
        refused=(404,),
        query=(tasks.WAIT,),
    ),
    Operation(
        "DELETE",
        "/v1/tasks/{id}",
        "cancelTask",
        "Nobody wants it any more.",
        "user",
        {200: json_of("Task", "The task, which has ended, or ends at its engine's next token.")},
        refused=(404,),
    ),
    Operation(
        "GET",
        "/v1/tasks/{id}/events",
        "followTask",
        "The answer of a task with `stream: true` as it comes.",
        "user",
        {200: Answer("Its events.", {EVENTS: "Event"})},
        refused=(404, 410),
        headers=("last-chunk",),
    ),
    # --- agents -----------------------------------------------------------------------------------------------------
    *_AGENTS,
    # --- files and batches ------------------------------------------------------------------------------------------
    Operation(
        "POST",
        "/v1/files",
        "uploadFile",
        "Upload a file.",
        "user",
        {200: json_of("File", "It is there.", links=_FILE_LINKS)},
        refused=(404,),
        takes="FileForm",
        media=FORM,
        more="It has to come without a pause of many minutes; what was given up meanwhile is 404.",
    ),
    Operation(
        "GET",
        "/v1/files",
        "listFiles",
        "The tenant's files.",
        "user",
        {200: json_of("Files", "A page; `after` with `last_id` goes on.")},
        query=(files.PURPOSE, files.LIMIT, files.AFTER, files.ORDER),
    ),
    Operation(
        "GET", "/v1/files/{id}", "showFile", "A file.", "user", {200: json_of("File", "About it.")}, refused=(404,)
    ),
    Operation(
        "DELETE",
        "/v1/files/{id}",
        "deleteFile",
        "Delete it.",
        "user",
        {200: json_of("FileDeleted", "It is gone.")},
        refused=(404,),
    ),
    Operation(
        "GET",
        "/v1/files/{id}/content",
        "downloadFile",
        "What is in it.",
        "user",
        {200: Answer("Its bytes.", {BYTES: None}, headers=("Content-Disposition",))},
        refused=(404,),
    ),
    Operation(
        "POST",
        "/v1/batches",
        "createBatch",
        "Do all requests of a file; docs/batches.md has their form.",
        "user",
        {200: json_of("Batch", "It was begun.", links=_BATCH_LINKS)},
        refused=(403, 429),
        headers=("session", "run"),
        takes="BatchRequest",
    ),
    Operation(
        "GET",
        "/v1/batches",
        "listBatches",
        "The tenant's batches, the newest first.",
        "user",
        {200: json_of("Batches", "A page; `after` with `last_id` goes on.")},
        query=(batches.LIMIT, files.AFTER),
    ),
    Operation(
        "GET",
        "/v1/batches/{id}",
        "showBatch",
        "How far a batch is.",
        "user",
        {200: json_of("Batch", "The batch.")},
        refused=(404,),
    ),
    Operation(
        "POST",
        "/v1/batches/{id}/cancel",
        "cancelBatch",
        "Do no more of it.",
        "user",
        {200: json_of("Batch", "The batch, which ends, or was cancelled before.")},
        refused=(404, 409),
    ),
    # --- admin ------------------------------------------------------------------------------------------------------
    Operation(
        "GET",
        "/admin/v1/usage",
        "usage",
        "What was used, by tenant, model, session and agent, complete up to now.",
        "admin",
        {200: json_of("Usage", "Rows and their total.")},
        query=(admin.SINCE, admin.TENANT, admin.AGENT, admin.RUN),
    ),
    Operation(
        "GET",
        "/admin/v1/usage/records",
        "usageRecords",
        "Usage records, in the order of their ends.",
        "admin",
        {200: json_of("UsageRecords", "A page; `next` goes on after it.")},
        query=(admin.SINCE, admin.UNTIL, admin.TENANT, admin.AFTER, admin.RECORDS_LIMIT),
    ),
    Operation(
        "POST",
        "/admin/v1/usage/prune",
        "pruneUsage",
        "Turn old records into sums of their days.",
        "admin",
        {200: json_of("Pruned", "How many.")},
        takes="Pruning",
    ),
    Operation(
        "GET",
        "/admin/v1/cost",
        "cost",
        "What machines cost and for whom: parts that sum to the bill.",
        "admin",
        {200: json_of("Cost", "Rows, the largest first.")},
        query=(costs_api.BY, costs_api.SINCE, costs_api.UNTIL, costs_api.LIMIT),
    ),
    Operation(
        "POST",
        "/admin/v1/cost",
        "costOfBill",
        "Whose the money of somebody else's bill was. Nothing is changed.",
        "admin",
        {200: json_of("Cost", "Rows, the largest first.")},
        takes="Bill",
    ),
    Operation(
        "GET",
        "/admin/v1/cost/savings",
        "savings",
        "What machines would have cost on demand, and without scaling.",
        "admin",
        {200: json_of("Savings", "Each with how it is computed.")},
        query=(costs_api.SINCE, costs_api.UNTIL),
    ),
    Operation(
        "GET",
        "/admin/v1/starts",
        "starts",
        "How machines and replicas started: seconds and dollars of each phase.",
        "admin",
        {200: json_of("Starts", "The newest first, and a summary by model.")},
        query=(starts_api.MODEL, starts_api.SINCE, starts_api.UNTIL, starts_api.LIMIT),
    ),
    Operation(
        "GET",
        "/admin/v1/tasks",
        "listTasks",
        "The newest tasks.",
        "admin",
        {200: json_of("Tasks", "Tasks of all tenants.")},
        refused=(404,),
        query=(admin.MODEL, admin.STATE, admin.TASKS_LIMIT),
    ),
    Operation(
        "GET",
        "/admin/v1/tasks/{id}",
        "adminShowTask",
        "A task of any tenant.",
        "admin",
        {200: json_of("AdminTask", "The task.")},
        refused=(404,),
    ),
    Operation(
        "POST",
        "/admin/v1/tasks/{id}/retry",
        "retryTask",
        "Let a dead task wait again.",
        "admin",
        {200: json_of("Task", "The task, which waits.")},
        refused=(402, 404, 409, 429),
    ),
    # --- dead letters -----------------------------------------------------------------------------------------------
    Operation(
        "GET",
        "/admin/v1/dead",
        "listDead",
        "Dead letters: tasks that were given up, the latest first.",
        "admin",
        {200: json_of("Dead", "A page; `next` goes on after it.")},
        refused=(404,),
        query=(
            dead_letters_api.MODEL,
            dead_letters_api.TENANT,
            dead_letters_api.REASON,
            dead_letters_api.OLDER_THAN,
            dead_letters_api.NEWER_THAN,
            dead_letters_api.AFTER,
            dead_letters_api.LIMIT,
        ),
    ),
    Operation(
        "GET",
        "/admin/v1/dead/{id}",
        "showDead",
        "One, with all its attempts; also one that was forwarded or dropped.",
        "admin",
        {200: json_of("Letter", "The task.")},
        refused=(404,),
        query=(dead_letters_api.BODY,),
    ),
    Operation(
        "POST",
        "/admin/v1/dead/replay",
        "replayDead",
        "Let some wait again, each with a reservation of its own.",
        "admin",
        {200: json_of("Replayed", "What became of them.")},
        refused=(404,),
        takes="Letters",
    ),
    Operation(
        "POST",
        "/admin/v1/dead/drop",
        "dropDead",
        "Give some up for good.",
        "admin",
        {200: json_of("DroppedNow", "What became of them.")},
        refused=(404,),
        takes="Dropping",
    ),
    Operation(
        "GET",
        "/admin/v1/dead/dropped",
        "listDropped",
        "Who dropped what, and why; the latest first.",
        "admin",
        {200: json_of("DroppedLetters", "The latest.")},
        query=(dead_letters_api.LIMIT,),
    ),
    Operation(
        "POST",
        "/admin/v1/dead/replay-from-sqs",
        "replayFromSqs",
        "Receive some from the SQS queue, and let each wait again.",
        "admin",
        {200: json_of("Replayed", "What became of them.")},
        refused=(409,),
        takes="FromSqs",
    ),
    Operation(
        "GET",
        "/admin/v1/replicas",
        "listReplicas",
        "Who serves, how busy, and whether it is up.",
        "admin",
        {200: json_of("Replicas", "As this gateway sees them.")},
    ),
    Operation(
        "GET",
        "/admin/v1/audit",
        "listChanges",
        "What admins' keys changed, and what they were refused; the newest first.",
        "admin",
        {200: json_of("Changes", "A page; `next` goes on after it.")},
        query=(
            admin.KEY,
            admin.DID,
            admin.OBJECT,
            admin.CHANGED_SINCE,
            admin.CHANGED_UNTIL,
            admin.AFTER,
            admin.AUDIT_LIMIT,
        ),
    ),
    Operation(
        "GET", "/admin/v1/tenants", "listTenants", "All tenants.", "admin", {200: json_of("Tenants", "By name.")}
    ),
    Operation(
        "POST",
        "/admin/v1/tenants",
        "createTenant",
        "Make a tenant.",
        "admin",
        {201: json_of("TenantShown", "It was made.", links=_TENANT_LINKS)},
        refused=(409,),
        takes="NewTenant",
    ),
    Operation(
        "GET",
        "/admin/v1/tenants/{tenant}",
        "showTenant",
        "A tenant.",
        "admin",
        {200: json_of("TenantShown", "It, with its teams.")},
        refused=(404,),
    ),
    Operation(
        "PATCH",
        "/admin/v1/tenants/{tenant}",
        "changeTenant",
        "Change it, by a merge patch (RFC 7396).",
        "admin",
        {200: json_of("TenantShown", "As it is now.")},
        refused=(404, 409),
        takes="TenantPatch",
    ),
    Operation(
        "GET",
        "/admin/v1/tenants/{tenant}/teams",
        "listTeams",
        "Its teams.",
        "admin",
        {200: json_of("Teams", "By name.")},
        refused=(404,),
    ),
    Operation(
        "GET",
        "/admin/v1/tenants/{tenant}/teams/{team}",
        "showTeam",
        "A team.",
        "admin",
        {200: json_of("TeamShown", "It.")},
        refused=(404,),
    ),
    *(
        Operation(
            method,
            "/admin/v1/tenants/{tenant}/teams/{team}",
            id,
            f"Change it, by a merge patch (RFC 7396){more}.",
            "admin",
            answers,
            refused=(404, 409),
            takes="TeamPatch",
        )
        for method, id, more, answers in (
            (
                "PUT",
                "putTeam",
                "; make it when it is not there",
                {200: json_of("TeamChanged", "As it is now."), 201: json_of("TeamChanged", "It was made.")},
            ),
            ("PATCH", "changeTeam", "", {200: json_of("TeamChanged", "As it is now.")}),
        )
    ),
    Operation(
        "GET",
        "/admin/v1/keys",
        "listKeys",
        "Keys, the oldest first.",
        "admin",
        {200: json_of("Keys", "A page; `after` with the last id goes on.")},
        refused=(404,),
        query=(
            accounts_api.TENANT,
            accounts_api.TEAM,
            accounts_api.ENDED,
            accounts_api.AFTER_KEY,
            accounts_api.KEYS_LIMIT,
        ),
    ),
    Operation(
        "POST",
        "/admin/v1/keys",
        "createKey",
        "Make a key, and its tenant and team when they are not there.",
        "admin",
        {201: json_of("KeyWithSecret", "The key, with its secret.", links=_KEY_LINKS)},
        takes="NewKey",
    ),
    Operation("GET", "/admin/v1/keys/{id}", "showKey", "A key.", "admin", {200: json_of("Key", "It.")}, refused=(404,)),
    Operation(
        "PATCH",
        "/admin/v1/keys/{id}",
        "changeKey",
        "Change it, by a merge patch (RFC 7396).",
        "admin",
        {200: json_of("Key", "As it is now.")},
        refused=(404, 409),
        takes="KeyPatch",
    ),
    Operation(
        "DELETE",
        "/admin/v1/keys/{id}",
        "revokeKey",
        "Revoke it, for ever.",
        "admin",
        {200: json_of("Key", "It, revoked.")},
        refused=(404, 409),
    ),
    Operation(
        "POST",
        "/admin/v1/keys/{id}/rotate",
        "rotateKey",
        "Another secret for it.",
        "admin",
        {200: json_of("KeyWithSecret", "The key, with its new secret.")},
        refused=(404, 409),
        takes="Rotation",
        may_be_empty=True,
    ),
    Operation(
        "GET",
        "/admin/v1/budgets",
        "listBudgets",
        "Every limit that is set, what is spent of it, and when it renews.",
        "admin",
        {200: json_of("BudgetRows", "A row for each limit.")},
        refused=(404,),
        query=(accounts_api.TENANT,),
    ),
)
