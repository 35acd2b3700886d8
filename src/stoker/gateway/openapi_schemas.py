"""The named schemas of the OpenAPI document: what is sent, and what is answered. Pure.

Where the code has types (tenants, keys, budgets: `stoker.spec`), the schema is theirs; where it has limits, they are
its constants. What an engine makes of a field that the gateway only passes on is not said here, beyond what holds for
OpenAI's API. The gateway passes on fields that nobody knows, so these objects are open; those of `/admin/v1` are not.
"""

from collections.abc import Mapping
from typing import Any, get_args

from stoker.gateway import batches, costs_api, files, sizes
from stoker.gateway.endpoints import CHAT, ENDPOINTS, MOST_ANSWERS
from stoker.gateway.endpoints import ITEMS as ITEM_TYPES
from stoker.gateway.endpoints import PARTS as PART_TYPES
from stoker.gateway.endpoints import TOOLS as TOOL_TYPES
from stoker.gateway.openapi_agents import of_agents
from stoker.gateway.openapi_words import (
    COUNT,
    NONE,
    SECOND,
    SOMETHING,
    TIME,
    TIME_OR_NONE,
    USD,
    Schema,
    array,
    number,
    ref,
    some,
    text,
    thing,
    whole,
    word,
    yes_or_no,
)
from stoker.meter.batches import Status
from stoker.meter.bill_lines import MOST_LINES
from stoker.meter.lives import PHASES
from stoker.policy.callbacks import MOST_URL_CHARS
from stoker.policy.fairness import PRIORITIES
from stoker.queue import State
from stoker.spec import Budgets, Team, Tenant
from stoker.spec.budgets import WhenBusy
from stoker.spec.requests import Dropping, FromSqs, KeyTerms, Letters, NewKey, NewTenant, Pruning, Rotation
from stoker.spec.schema import schema_of
from stoker.spec.section import NAME_PATTERN, Section

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def schemas() -> dict[str, Schema]:
    """By name, as `components.schemas` has them."""
    return {**_sent(), **_of_sections(), **_of_letters(), **of_agents(), **_answered()}


# --- what is sent ---------------------------------------------------------------------------------------------------


def _sent() -> dict[str, Schema]:
    items, texts = {"maxItems": sizes.MOST_ITEMS}, {"maxItems": sizes.MOST_TEXTS}
    length = some(whole("Tokens of the answer at most; more than the model allows is cut to that.", minimum=1))
    tokens = array(whole(minimum=0), minItems=1)
    common = {
        "model": some(text("A model, an alias of one, or `auto`; see `GET /v1/models`. Left out, it is `auto`.")),
        "stream": some(yes_or_no("Answer by server-sent events.")),
        "user": {"description": "Who the request is for; keeps a weighted name's model."},
    }
    generating = {
        **common,
        "temperature": some(number(minimum=0, maximum=2)),
        "top_p": some(number(minimum=0, maximum=1)),
        "conversation": {"description": "The session: an id, or an object with one. See X-Session-Id."},
    }
    sampling = {
        "n": some(whole("Answers; each is paid for.", minimum=1, maximum=MOST_ANSWERS)),
        "seed": some(whole()),
        "stop": {
            "anyOf": [
                text(minLength=1, maxLength=sizes.MOST_STOP_CHARACTERS),
                array(text(minLength=1, maxLength=sizes.MOST_STOP_CHARACTERS), maxItems=sizes.MOST_STOPS),
                {"type": "null"},
            ]
        },
        "presence_penalty": some(number(minimum=-2, maximum=2)),
        "frequency_penalty": some(number(minimum=-2, maximum=2)),
        "logit_bias": some({"type": "object", "additionalProperties": number(minimum=-100, maximum=100)}),
        "stream_options": some({"type": "object", "properties": {"include_usage": some(yes_or_no())}}),
    }
    spelled_out = {"endpoint": NONE, "body": NONE}
    priority = word(*PRIORITIES)
    # In a body as it is, any other value but a text is the engine's.
    as_it_is = {"anyOf": [priority, {"not": {"type": "string"}}]}
    kept = {"seconds": whole(minimum=files.LEAST_KEPT_S, maximum=files.MOST_KEPT_S)}
    part = thing(
        {
            "type": text("`text`, `image_url`, or what else the engine takes."),
            "text": text(),
            "image_url": thing(
                {"url": text("A data: URL; what else is fetched by nobody, see gateway.allowImageUrls.")}
            ),
        },
        leaves_out=("text", "image_url"),
    )
    message = thing(
        {
            "role": word(*ROLES),
            "content": {
                "anyOf": [text(), array(part, maxItems=sizes.MOST_PARTS), {"type": "null"}],
            },
        },
        leaves_out=("content",),
    )
    item_part = thing({"type": word(*PART_TYPES), "text": text()}, leaves_out=("text",))
    item = thing(
        {
            "type": word(*ITEM_TYPES),
            "role": word(*ROLES),
            "content": {"anyOf": [text(), array(item_part, maxItems=sizes.MOST_PARTS), {"type": "null"}]},
            "output": {"anyOf": [text(), array(item_part, maxItems=sizes.MOST_PARTS), {"type": "null"}]},
        },
        leaves_out=("type", "role", "content", "output"),
    )
    bill_lines = array(
        thing(
            {
                "nano_usd": whole("Nano-dollars; below 0 a credit.", minimum=-(2**63) + 1, maximum=2**63 - 1),
                **dict.fromkeys(("began_at", "ended_at"), number(minimum=0, maximum=1e12)),
                **dict.fromkeys(("item", "machine", "pool", "capacity", "type", "zone"), text(maxLength=256)),
                "is_shared": yes_or_no("It is no machine's."),
            },
            leaves_out=("item", "machine", "pool", "capacity", "type", "zone", "is_shared"),
            additionalProperties=False,
        ),
        maxItems=MOST_LINES,
    )
    return {
        "Bill": thing(
            {
                "by": text(
                    f"As of `GET /admin/v1/cost`. Default: {costs_api.BY_DEFAULT}.", pattern=costs_api.BY_PATTERN
                ),
                **dict.fromkeys(("since", "until"), number(minimum=0, maximum=1e12)),
                "limit": whole(minimum=1, maximum=costs_api.MOST_ROWS),
                "source": text("Whose bill it is.", minLength=1, maxLength=200),
                "lines": bill_lines,
                "if_known": {**bill_lines, "description": "Taken only where the platform knows the machine."},
            },
            leaves_out=("by", "limit", "source", "if_known"),
            additionalProperties=False,
        ),
        "ChatRequest": thing(
            {
                "messages": array(message, minItems=1, **items),
                **generating,
                "max_completion_tokens": length,
                "max_tokens": length,
                **sampling,
                "tools": some(array({"type": "object"}, maxItems=sizes.MOST_TOOLS)),
            },
            leaves_out=(*generating, "max_completion_tokens", "max_tokens", *sampling, "tools"),
        ),
        "CompletionRequest": thing(
            {
                "prompt": {"anyOf": [text(), array(text(), minItems=1, **texts), tokens]},
                **generating,
                "max_tokens": some(whole(minimum=0)),
                **sampling,
            },
            leaves_out=(*generating, "max_tokens", *sampling),
        ),
        "ResponseRequest": thing(
            {
                "input": {"anyOf": [text(minLength=1), array(item, minItems=1, **items)]},
                **generating,
                "instructions": some(text()),
                "max_output_tokens": length,
                "tools": some(array(thing({"type": word(*TOOL_TYPES)}), maxItems=sizes.MOST_TOOLS)),
                "store": {"description": "Whatever it is, it is taken for false: nothing is kept."},
            },
            leaves_out=(*generating, "instructions", "max_output_tokens", "tools", "store"),
        ),
        "EmbeddingRequest": thing(
            {
                "input": {
                    "anyOf": [
                        text(minLength=1),
                        array(text(minLength=1), minItems=1, **texts),
                        tokens,
                        array(tokens, minItems=1, **texts),
                    ]
                },
                "model": common["model"],
                "user": common["user"],
                "encoding_format": some(text("`float` or `base64`.", pattern="^(float|base64)$")),
                "dimensions": some(whole(minimum=1)),
            },
            leaves_out=("model", "user", "encoding_format", "dimensions"),
        ),
        "TaskRequest": {
            "description": "A body for one of the endpoints, with the endpoint; or a body with `messages` (a chat) or "
            "`prompt` as it is. What of it only the engine refuses makes the task a dead one.",
            "properties": {
                "callback_url": some(
                    text(
                        "Told of its end by a POST, see docs/webhooks.md. Only hosts of the tenant's `callbackHosts`.",
                        maxLength=MOST_URL_CHARS,
                        pattern="^https?://[!-~]+$",
                    )
                )
            },
            "anyOf": [
                *(
                    thing(
                        {
                            "endpoint": {"const": each.path},
                            "body": thing({each.needs: SOMETHING}),
                            "priority": some(priority),
                        },
                        leaves_out=("endpoint", "priority") if each is CHAT else ("priority",),
                    )
                    for each in ENDPOINTS.values()
                ),
                thing(
                    {"messages": SOMETHING, "priority": as_it_is, **spelled_out},
                    leaves_out=("priority", *spelled_out),
                ),
                thing(
                    {"prompt": SOMETHING, "input": NONE, "priority": as_it_is, **spelled_out},
                    leaves_out=("input", "priority", *spelled_out),
                ),
            ],
        },
        "FileForm": thing(
            {
                "file": {"type": "string", "format": "binary", "description": "Its name is that of the part."},
                "purpose": word(*files.PURPOSES),
                "expires_after[anchor]": {"const": "created_at"},
                "expires_after[seconds]": kept["seconds"],
            },
            leaves_out=("expires_after[anchor]", "expires_after[seconds]"),
            additionalProperties=False,
            dependentRequired={
                "expires_after[anchor]": ["expires_after[seconds]"],
                "expires_after[seconds]": ["expires_after[anchor]"],
            },
        ),
        "BatchRequest": thing(
            {
                "input_file_id": text("A file with the purpose `batch`."),
                "endpoint": word(*ENDPOINTS),
                "completion_window": text(
                    "Such as 24h, 30m or 2d, up to 7 days.", pattern=f"^({batches.WINDOW_PATTERN})$"
                ),
                "metadata": some(
                    {
                        "type": "object",
                        "maxProperties": batches.MOST_METADATA,
                        "propertyNames": {"maxLength": batches.LONGEST_NAME},
                        "additionalProperties": text(maxLength=batches.LONGEST_VALUE),
                    }
                ),
                "output_expires_after": some(thing({"anchor": {"const": "created_at"}, **kept})),
            },
            leaves_out=("metadata", "output_expires_after"),
            additionalProperties=False,
        ),
    }


def _of_sections() -> dict[str, Schema]:
    """What /admin/v1 is sent, of the types that read it."""
    whole_ones: dict[str, type[Section]] = {
        "NewTenant": NewTenant,
        "NewKey": NewKey,
        "Rotation": Rotation,
        "Pruning": Pruning,
    }
    patches: dict[str, type[Section]] = {"TenantPatch": Tenant, "TeamPatch": Team, "KeyPatch": KeyTerms}
    found: dict[str, Schema] = {"Budgets": _section(Budgets)}
    for name, kind in whole_ones.items():
        found[name] = _section(kind)
    for name, kind in patches.items():
        found[name] = _as_patch(_section(kind))
    found["Team"] = _section(Team)
    found["Pruning"]["properties"]["before"]["format"] = "date"
    found["TenantPatch"]["properties"]["teams"] = {
        "type": "object",
        "patternProperties": {NAME_PATTERN: ref("TeamPatch")},
        "additionalProperties": False,
        "description": "Teams that are to be made or changed. None can be taken away.",
    }
    return found


def _section(kind: type[Section]) -> Schema:
    made: Schema = _pointing_here({name: part for name, part in schema_of(kind).items() if name != "$defs"})
    for name in kind.containers():  # where null is read as nothing written
        if name in made["properties"]:
            made["properties"][name] = some(_with_nulls(made["properties"][name]))
    return made


def _with_nulls(container: Schema) -> Schema:
    """Sections by name: a name with nothing written to it has null."""
    named = container.get("patternProperties", {})
    return {**container, "patternProperties": {name: some(one) for name, one in named.items()}} if named else container


def _as_patch(section: Schema) -> Schema:
    """RFC 7396: anything may be left out, and null takes away."""
    properties = {name: part if _takes_null(part) else some(part) for name, part in section["properties"].items()}
    return {**{name: part for name, part in section.items() if name != "required"}, "properties": properties}


def _takes_null(part: Schema) -> bool:
    kind = part.get("type")
    return {"type": "null"} in part.get("anyOf", ()) or (isinstance(kind, list) and "null" in kind)


def _pointing_here(part: Any) -> Any:
    if isinstance(part, list):
        return [_pointing_here(one) for one in part]
    if not isinstance(part, dict):
        return part
    if "patternProperties" in part:  # names that somebody chooses, and what else would be none
        part = {"additionalProperties": False, **part}
    return {
        name: value.replace("#/$defs/", "#/components/schemas/") if name == "$ref" else _pointing_here(value)
        for name, value in part.items()
    }


def _page(of: Schema) -> Schema:
    """OpenAI's page of a list."""
    ids = {"first_id": some(text()), "last_id": some(text())}
    return thing({"object": {"const": "list"}, "data": array(of), **ids, "has_more": yes_or_no()})


# --- dead letters ---------------------------------------------------------------------------------------------------


def _of_letters() -> dict[str, Schema]:
    """What is sent about them, with what the types say by their rules: which are meant has to be said, by ids or else
    by anything but ids."""
    narrower = ("model", "tenant", "reason", "older_than", "newer_than")
    alone: Schema = {"ids": {"type": "array", "minItems": 1}, "all": {"const": False}}
    by_ids = {"properties": alone | {name: {"type": "null"} for name in narrower}, "required": ["ids"]}
    no_ids: Schema = {"properties": {"ids": {"maxItems": 0}}}
    anything = [
        *({"properties": {name: SOMETHING}, "required": [name]} for name in narrower),
        {"properties": {"all": {"const": True}}, "required": ["all"]},
    ]
    which = {"anyOf": [by_ids, {**no_ids, "anyOf": anything}]}
    return {
        "Letters": {**_section(Letters), **which},
        "Dropping": {**_section(Dropping), **which},
        "FromSqs": _section(FromSqs),
    }


def _told_of_letters(task_fields: Mapping[str, Schema]) -> dict[str, Schema]:
    """What is answered."""
    body = some({"type": "object", "description": "What was asked; null where a message in SQS has it."})
    refused = thing({"id": some(text("Null for a message that is no letter.")), "code": text(), "message": text()})
    forwarding = thing(
        {
            "queue": text(),
            "waiting": COUNT,
            "state": text("`idle`, `sending`, `starting`, or `away`: SQS does not answer, or not with yes."),
            "sent": whole("Ever.", minimum=0),
            "sent_at": TIME_OR_NONE,
            "failures": whole("In a row.", minimum=0),
            "error": some(text()),
            "next_try_at": TIME_OR_NONE,
            "refused": {"type": "object", "additionalProperties": text("Why SQS does not take it.")},
        },
        leaves_out=("sent", "sent_at", "failures", "error", "next_try_at", "refused"),
        description="How they go to SQS; null where they stay here.",
    )
    dropped = {name: text() for name in ("id", "model", "tenant", "code", "by", "why")}

    def became(did: str) -> Schema:
        return thing(
            {
                did: array(text(), description="Ids."),
                "refused": array(refused),
                "stopped": some(text("Why it did not go on.")),
                "more": yes_or_no("There are others, or may be."),
            }
        )

    return {
        "Dead": thing({"tasks": array(ref("Task")), "next": some(text()), "forwarding": some(forwarding)}),
        "Letter": thing({**task_fields, "replays": COUNT, "body": body}, leaves_out=("body",)),
        "Replayed": became("replayed"),
        "DroppedNow": became("dropped"),
        "DroppedLetters": thing({"dropped": array(thing({**dropped, "died_at": TIME_OR_NONE, "dropped_at": TIME}))}),
    }


# --- what is answered -----------------------------------------------------------------------------------------------


def _start() -> Schema:
    """Of a machine or a replica."""
    seconds = some(number("null: not over."))
    part = {"phase": word(*PHASES), "began_at": TIME, "seconds": seconds, "usd": USD, "detail": some(text())}
    return thing(
        {
            "kind": word("machine", "replica"),
            "name": text(),
            "model": text("Empty for a machine."),
            **dict.fromkeys(("machine", "nodepool", "type", "capacity"), text()),
            "began_at": TIME,
            "ready_at": TIME_OR_NONE,
            "seconds": seconds,
            "usd": USD,
            "phases": array(thing(part)),
        }
    )


def _starts_of_model() -> Schema:
    times = dict.fromkeys(("median_s", "p95_s"), some(number("Seconds; null where none is ready.")))
    return thing(
        {
            "model": text(),
            "starts": COUNT,
            "ready": COUNT,
            **times,
            "usd": USD,
            "phases": array(thing({"phase": word(*PHASES), **times, "usd": USD})),
            "dominates": some(word(*PHASES)),
            "evidence": some(text()),
            "would_help": some(text()),
        }
    )


def _answered() -> dict[str, Schema]:
    usage = thing(
        {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
        leaves_out=("completion_tokens",),
    )
    task_fields = {
        "id": text(),
        "object": {"const": "task"},
        "model": text(),
        "tenant": text(),
        "state": word(*(state.value for state in State)),
        "priority": word(*PRIORITIES),
        "attempts": whole("Those that were begun.", minimum=0),
        "endpoint": text(),
        "session": some(text()),
        "run": some(text()),
        "agent": some(text()),
        "submitted_at": TIME,
        "started_at": TIME_OR_NONE,
        "ended_at": TIME_OR_NONE,
        "worker": some(text()),
        "failures": array(
            thing(
                {
                    "attempt": whole(minimum=1),
                    "worker": some(text()),
                    "started_at": TIME_OR_NONE,
                    "ended_at": TIME_OR_NONE,
                    "why": some(text()),
                }
            )
        ),
        "error": some({"type": "object", "description": "Why it is dead."}),
        "callback": some(
            thing(
                {
                    "url": text(),
                    "state": word("waiting", "delivered", "failed"),
                    "tries": COUNT,
                    "at": TIME_OR_NONE,
                    "status": some(whole("What the receiver answered.")),
                    "error": some(text()),
                },
                description="How it stands with telling somebody of its end.",
            )
        ),
    }
    place = {
        "position": some(whole("Of one that waits: how many are likely to be taken before it.", minimum=0)),
        "estimated_wait_s": some(number("As soon as one has ended by which to judge.", minimum=0)),
    }
    file = {
        "id": text(),
        "object": {"const": "file"},
        "bytes": COUNT,
        "created_at": SECOND,
        "expires_at": some(SECOND),
        "filename": text(),
        "purpose": text(),
        "status": {"const": "processed"},
        "status_details": {"type": "null"},
    }
    batch_errors = array(
        thing({"code": text(), "line": some(whole(minimum=1)), "message": text(), "param": some(text())})
    )
    batch = {
        "id": text(),
        "object": {"const": "batch"},
        "endpoint": word(*ENDPOINTS),
        "errors": some(thing({"object": {"const": "list"}, "data": batch_errors}, description="Why it failed.")),
        "input_file_id": text(),
        "completion_window": text(),
        "status": word(*get_args(Status)),
        **{
            name: some(text("A file with a line for each request; none, if it would have no lines."))
            for name in ("output_file_id", "error_file_id")
        },
        **{name: some(SECOND) for name in batches.TIMES},
        "created_at": SECOND,
        "expires_at": SECOND,
        "request_counts": thing(dict.fromkeys(("total", "completed", "failed"), COUNT)),
        "usage": thing(
            {
                **dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), COUNT),
                "input_tokens_details": thing({"cached_tokens": COUNT}),
                "output_tokens_details": thing({"reasoning_tokens": COUNT}),
            }
        ),
        "metadata": some({"type": "object", "additionalProperties": text()}),
    }
    sums = {
        "requests": COUNT,
        "steps": whole("Of agents' runs, which are no requests.", minimum=0),
        "prompt_tokens": COUNT,
        "cached_tokens": COUNT,
        "completion_tokens": COUNT,
        "usd": USD,
        "nano_usd": COUNT,
    }
    source = word("file", "api")
    team = {"name": text(), "tenant": text(), "source": source, "created_at": TIME}
    key = {
        "id": text(),
        "tenant": text(),
        "team": some(text()),
        "name": text(),
        "role": word("user", "admin"),
        "state": word("in use", "expired", "revoked"),
        "prefix": text("The first characters of its secret."),
        "budgets": ref("Budgets"),
        "models": some(array(text())),
        "routes": some(array(text())),
        "created_at": TIME,
        "rotated_at": TIME_OR_NONE,
        "expires_at": TIME_OR_NONE,
        "revoked_at": TIME_OR_NONE,
    }
    model = thing(
        {"id": text(), "object": {"const": "model"}, "created": whole(), "owned_by": text()}, additionalProperties=False
    )
    record = {
        **{name: text() for name in ("id", "tenant", "key_id", "model")},
        "kind": word("request", "task", "step"),
        "status": word("done", "cancelled", "failed", "cut", "lost"),
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens", "nano_usd", "attempts"), COUNT),
        **dict.fromkeys(("started_at", "ended_at"), TIME),
        "first_token_at": TIME_OR_NONE,
        **{name: some(text()) for name in ("team", "session", "run", "agent", "replica", "route", "reason")},
    }
    return {
        "Error": thing(
            {
                "error": thing(
                    {
                        "message": text("What was wrong, which value, and what would be right."),
                        "type": text(),
                        "code": {"type": ["string", "integer", "null"], "description": "For programs."},
                        "param": some(text("The path of the value at fault.")),
                        "position": {"type": "integer", "minimum": 0, "description": "Of `queue_full`: how many wait."},
                        "estimated_wait_s": {
                            "type": ["number", "null"],
                            "minimum": 0,
                            "description": "Of `queue_full`: for how long it would have waited behind them.",
                        },
                    },
                    leaves_out=("type", "code", "param", "position", "estimated_wait_s"),
                )
            }
        ),
        "ChatCompletion": thing(
            {
                "id": text(),
                "object": {"const": "chat.completion"},
                "created": whole(),
                "model": text(),
                "choices": array(thing({"index": COUNT, "message": {"type": "object"}, "finish_reason": some(text())})),
                "usage": usage,
            }
        ),
        "Completion": thing(
            {
                "id": text(),
                "object": {"const": "text_completion"},
                "created": whole(),
                "model": text(),
                "choices": array(thing({"index": COUNT, "text": text(), "finish_reason": some(text())})),
                "usage": usage,
            }
        ),
        "Response": thing(
            {
                "id": text(),
                "object": {"const": "response"},
                "created_at": number(),
                "model": text(),
                "status": text(),
                "output": array({"type": "object"}),
                "usage": thing({"input_tokens": COUNT, "output_tokens": COUNT, "total_tokens": COUNT}),
            }
        ),
        "Embeddings": thing(
            {
                "object": {"const": "list"},
                "model": text(),
                "data": array(
                    thing(
                        {"object": {"const": "embedding"}, "index": COUNT, "embedding": {"type": ["array", "string"]}}
                    )
                ),
                "usage": usage,
            }
        ),
        "Event": thing(
            {
                "data": text("JSON, or `[DONE]` at the end."),
                "event": text("Of responses, the type; of a task, `restart`: what came before is void."),
                "id": text("For Last-Event-ID."),
            },
            leaves_out=("event", "id"),
            description="One server-sent event.",
        ),
        "Model": model,
        "Models": thing({"object": {"const": "list"}, "data": array(model)}),
        "Task": thing(task_fields),
        "TaskWithResult": thing({**task_fields, **place, "result": some({"type": "object"})}),
        "AdminTask": thing({**task_fields, "result": some({"type": "object"})}),
        "Tasks": thing({"tasks": array(ref("Task"))}),
        "File": thing(file, additionalProperties=False),
        "Files": _page(ref("File")),
        "FileDeleted": thing({"id": text(), "object": {"const": "file"}, "deleted": {"const": True}}),
        "Batch": thing(batch, additionalProperties=False),
        "Batches": _page(ref("Batch")),
        "Stream": thing(
            {"id": text(), "object": {"const": "stream"}, "state": word(*(state.value for state in State))}
        ),
        **_told_of_letters(task_fields),
        "Usage": thing(
            {
                "rows": array(
                    thing({"tenant": text(), "model": text(), "session": some(text()), "agent": some(text()), **sums})
                ),
                "total": thing(sums),
            }
        ),
        "Cost": thing(
            {
                "by": array(text()),
                "since": TIME,
                "until": TIME,
                "source": text(),
                "rows": array(
                    thing(
                        {
                            "key": text("What stands for it: a name, or in brackets what has none, such as (idle)."),
                            **dict.fromkeys(("usd", "work_usd", "idle_usd", "start_up_usd"), USD),
                            "nano_usd": whole(),
                        }
                    )
                ),
                **dict.fromkeys(("total_usd", "bill_usd"), USD),
                "bill_nano_usd": whole(),
                "parts": {"type": "object", "additionalProperties": USD},
                "items": {"type": "object", "additionalProperties": USD},
                "left_out_usd": number("Of a bill that was sent: what is of machines that are not known."),
                "left_out_rows": COUNT,
            },
            leaves_out=("left_out_usd", "left_out_rows"),
        ),
        "Savings": thing(
            {
                "since": TIME,
                "until": TIME,
                "spot": thing({**dict.fromkeys(("paid_usd", "on_demand_usd", "saved_usd"), USD), "how": text()}),
                "scaling": thing({**dict.fromkeys(("paid_usd", "at_peak_usd", "saved_usd"), USD), "how": text()}),
                "consolidation": thing({"saved_usd": some(USD), "how": text(), "rows": array({"type": "object"})}),
            }
        ),
        "Starts": thing({"since": TIME, "until": TIME, "starts": array(_start()), "models": array(_starts_of_model())}),
        "UsageRecords": thing({"records": array(thing(record)), "next": some(text())}),
        "Pruned": thing({"before": text(), "pruned": COUNT}),
        "Replicas": thing(
            {
                "replicas": array(
                    thing(
                        {
                            "id": text(),
                            "model": text(),
                            "url": text(),
                            "state": word("up", "down", "draining"),
                            "breaker": word("closed", "open", "half-open"),
                            "breaker_since": TIME,
                            "breaker_why": some(text("What opened it.")),
                            **dict.fromkeys(("running", "capacity", "in_flight", "served"), COUNT),
                        }
                    )
                )
            }
        ),
        "Changes": thing(
            {
                "records": array(
                    thing(
                        {
                            "id": text(),
                            "at": TIME,
                            "key_id": text("The admin's key."),
                            "request_id": text("X-Request-Id of the answer."),
                            "did": text("Such as `keys.revoke`."),
                            "object": text("Such as `key:key_1`."),
                            "result": text("`done`, `begun` when nobody can say, or the code of the error."),
                            "before": some({"type": "object"}),
                            "after": some({"type": "object"}),
                        }
                    )
                ),
                "next": some(text()),
            }
        ),
        "TeamShown": thing({**team, "description": text(), "budgets": ref("Budgets")}),
        "TeamChanged": thing({**team, "description": text(), "budgets": ref("Budgets"), "made_team": yes_or_no()}),
        "Teams": thing({"teams": array(ref("TeamShown"))}),
        "TenantShown": thing(
            {
                "name": text(),
                "description": text(),
                **{name: ref("Budgets") for name in ("budgets", "sessionBudgets", "runBudgets")},
                "whenRedisIsAway": word("closed", "open"),
                "weight": whole(minimum=1),
                "maxPriority": word(*PRIORITIES),
                "whenBusy": word(*get_args(WhenBusy)),
                "teams": {"type": "object", "additionalProperties": ref("Team")},
                "source": source,
                "recordContent": yes_or_no("Whether its prompts and answers are written on spans."),
                "callbackHosts": array(text()),
                "callbackSecretEnv": text("Variable of the gateway's environment with the secret; not there: none."),
                "created_at": TIME,
            },
            leaves_out=("callbackSecretEnv",),
        ),
        "Tenants": thing({"tenants": array(ref("TenantShown"))}),
        "Key": thing(key, additionalProperties=False),
        "Keys": thing({"keys": array(ref("Key")), "has_more": yes_or_no()}),
        "KeyWithSecret": thing(
            {
                **key,
                "key": text("The secret. This answer is the only one that has it."),
                "made_tenant": yes_or_no(),
                "made_team": yes_or_no(),
            }
        ),
        "BudgetRows": thing(
            {
                "budgets": array(
                    thing(
                        {
                            "scope": word("tenant", "team", "key", "session", "run", "agent"),
                            "tenant": some(text()),
                            "id": some(text()),
                            "budget": text(),
                            "unit": text(),
                            "window": text(),
                            "limit": number(),
                            "spent": some(number()),
                            "reserved": some(number()),
                            "left": some(number()),
                            "renews_at": TIME_OR_NONE,
                            "alert": some(
                                thing({"threshold": some(number()), "at": number(), "told": {"type": "object"}})
                            ),
                        }
                    )
                )
            }
        ),
        "Health": thing({"status": {"const": "ok"}}),
        "Ready": thing({"ready": yes_or_no(), "up": array(text()), "missing": array(text())}),
    }
