"""Every Redis key, channel and field that Stoker uses, and what lies there. `docs/queue.md` shows them together.

Two of these names are contracts with the outside: `stoker:tasks:<model>` with the group `workers`, whose lag KEDA
scales on (`policy.streams`), and `stoker:dead:<model>`.
"""

from stoker.policy import streams

# --- for each model -------------------------------------------------------------------------------------------------


def tasks(model: str) -> str:
    """Stream of tickets: one for each task that waits (not delivered to the group) or runs (delivered, pending). Which
    task a ticket stands for is decided when it is delivered."""
    return streams.tasks(model)


def dead(model: str) -> str:
    """Stream of dead letters; fields `id` and `reason`."""
    return f"stoker:dead:{model}"


def delayed(model: str) -> str:
    """Sorted set of task ids that wait for their next attempt, by the millisecond when it is due."""
    return f"stoker:delayed:{model}"


def leases(model: str) -> str:
    """Sorted set of task ids that run, by the millisecond when their lease ends."""
    return f"stoker:leases:{model}"


def ended(model: str) -> str:
    """Stream of the tasks that were done or cancelled lately, capped; fields `id` and `state`. For listing only."""
    return f"stoker:ended:{model}"


def bell(model: str) -> str:
    """List with one element when a waiting worker should look, so that one worker wakes for one task, not all."""
    return f"stoker:bell:{model}"


def waiting(model: str) -> str:
    """Hash of numbers that the order of waiting tasks goes by (`lua/order.lua`): `seq` (how many ever began to wait),
    and for each priority `count:` (how many wait), `passed:` (how often passed over) and `floor:` (the counter of the
    last tenant that left it empty); `tokens`, what all that wait were let in with; `run_ms`, how long tasks run."""
    return f"stoker:waiting:{model}"


WAITING_TOKENS = "tokens"  # a field of it


def lane(model: str, priority: str) -> str:
    """Sorted set of the tenants that wait with this priority, by their counters."""
    return f"{waiting(model)}:{priority}"


def tenant_tasks(model: str, priority: str, tenant: str) -> str:
    """Sorted set of the ids of a tenant's waiting tasks, by when they began to wait (`seq`). With `:served` behind it:
    the counter of a tenant that has nothing waiting, for an hour."""
    return f"{lane(model, priority)}:{tenant}"


def of_model(model: str) -> list[str]:
    """The keys that every script about a model is given, in the order that `lua/prelude.lua` names them. Those that
    hang on `waiting` it makes itself."""
    return [
        tasks(model),
        dead(model),
        delayed(model),
        leases(model),
        ended(model),
        bell(model),
        USAGE,
        MODELS,
        waiting(model),
    ]


# --- for each task --------------------------------------------------------------------------------------------------

TASK_PREFIX = "stoker:task:"
CHUNKS_PREFIX = "stoker:chunks:"
SAID_PREFIX = "stoker:said:"


def task(task_id: str) -> str:
    """Hash: all there is to know of a task, with the fields below."""
    return TASK_PREFIX + task_id


def chunks(task_id: str) -> str:
    """Stream of what a streamed task has said in its current answer; field `d`. Ids are `<token>-<number>`, with
    the token of the claim under which the answer began."""
    return CHUNKS_PREFIX + task_id


def said(task_id: str) -> str:
    """Channel: something was added to the chunks."""
    return SAID_PREFIX + task_id


# --- budgets ---------------------------------------------------------------------------------------------------------

# Hash for each counter: `spent`, `leased` (sum of all slices), `held` (by tasks), `limit` (as last seen in a lease).
# While it is being begun it has no `spent`, but `opened_at`, and `late`: what was settled since.
BUDGET_PREFIX = "stoker:budget:"
# Hash for each owner: `watermark`, `calls_from` (calls with a lower number are void), and once it is gone `fate`, `by`,
# `by_until`. With a suffix: `:slices` (hash: counter -> amount), `:settled` (sorted set of numbers from the watermark),
# `:open` (set of the numbers that were in flight when it died), `:answers` (hash: number of a call -> what it granted,
# as JSON, or `void`).
OWNER_PREFIX = "stoker:owner:"
OWNERS = "stoker:owners"  # sorted set of owners by the millisecond when they are taken for dead; 0: taken over
BOOKS = "stoker:budgets"  # hash: `opens_at`, the millisecond from which anything is leased
WANTED = "stoker:budgets:wanted"  # sorted set of counters that somebody waits for, by when that is forgotten
# Hash for each scope (`key:key_01`): the counters that Redis has of it, `<unit>:<window>` -> how the name of the newest
# ends ('' in total). One field for each limit that a scope can have, so it stays small; none for `concurrent`.
SCOPE_PREFIX = "stoker:budgets:of:"
# String for each usage record that was appended outside of a settlement, so that it counts once.
APPENDED_PREFIX = "stoker:budgets:appended:"


def budget(counter: str) -> str:
    return BUDGET_PREFIX + counter


# --- one of each ----------------------------------------------------------------------------------------------------

MODELS = "stoker:models"  # set of the models that ever had a task
USAGE = "stoker:usage"  # stream of usage records on their way to the ledger; field `r`
DROPPED = "stoker:dropped"  # stream, capped: dead letters that somebody gave up; field `d` (JSON)
FORWARDER = "stoker:forwarder"  # string, JSON: what the forwarder of dead letters says of itself
LEADER_PREFIX = "stoker:leader:"  # hash for each thing that one process at a time does: `holder`, `until` (ms)
# String for each task of which a life was replayed or dropped: the number of the latest such life (0: the first).
GONE_PREFIX = "stoker:gone:"
# Sorted set of the lives (`<number>:<task>`) whose end somebody is to be told of, by the millisecond of the next try.
CALLBACKS = "stoker:callbacks"
REPLICAS = "stoker:replicas"  # hash: replica id -> JSON
REPLICAS_EXPIRY = "stoker:replicas:expiry"  # sorted set of replica ids by the millisecond when they expire
EVENTS = "stoker:events"  # channel: a task ended, was asked to be cancelled, or lost its lease; the message is its id

WORKERS_GROUP = streams.GROUP
LEDGER_GROUP = "ledger"

# --- fields of a task's hash; times are milliseconds since the epoch -------------------------------------------------

HEAD = "head"  # JSON: what was submitted, without the body
BODY = "body"  # JSON
STATE = "state"
ENTRY = "entry"  # of one that runs: its ticket in the stream of tasks; of a dead one: its dead letter
SUBMITTED = "submitted"
DEADLINE = "deadline"
STARTED = "started"
ENDED = "ended"
DUE = "due"  # retrying: when it goes back
TOKEN = "token"  # noqa: S105 - the fencing token's field name, no secret
WORKER = "worker"
LOST = "lost"  # its worker or its engine went away under it, once at least
FAILED = "failed"  # how many attempts failed
HISTORY = "history"  # one JSON object a line for each of them
CANCEL = "cancel"  # "1": somebody asked for it while it ran
REPLAYS = "replays"
BOUND = "bound"  # JSON: of the latest replay, where it is another than in the head
LAST = "last"  # "<token>:<step>": how the latest claim finished, so that the same call again is known
RESULT = "result"  # JSON
ERROR = "error"  # JSON
DELIVERY = "delivery"  # JSON: how it stands with telling somebody of its end
SCOPES = "scopes"  # the scopes of its usage records, divided by spaces
PARTIAL = "partial"  # JSON: what the answer had come to, for the next attempt to go on with (`tasks.Partial`)
CHARGED = "charged"  # what its latest claim added to the counter of its tenant
# What it holds of budgets: `hold` (JSON), `hold:<i>`; what failed attempts used: `used:<name>`; `unpaid` while it waits
# for what gateways give back. See lua/money.lua.
# `dropped`: "<who>:<why>" of the call that dropped it, so that the same call again is known.
# `replay`: "<owner>:<number>", the reservation that its latest replay took over, so that the same call again is known.

SUMMARY = (
    HEAD,
    STATE,
    SUBMITTED,
    DEADLINE,
    STARTED,
    ENDED,
    DUE,
    WORKER,
    HISTORY,
    CANCEL,
    REPLAYS,
    BOUND,
    ERROR,
    DELIVERY,
)  # what a listing reads: all but body and result
