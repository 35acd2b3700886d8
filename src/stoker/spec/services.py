"""`gateway`, `redis`, `queue` and `ledger`: what every request passes through."""

from collections.abc import Iterator, Mapping
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from stoker.spec.faults import Fault
from stoker.spec.guide import Architecture, RedisMaster, RedisReplica
from stoker.spec.llm import Alias
from stoker.spec.section import Bytes, EnvName, Expected, Name, Seconds, Section

RESERVED_ROUTES = frozenset(
    (
        *("admin", "agents", "assistants", "audio", "auto", "batches", "chat", "completions", "conversations"),
        *("embeddings", "evals", "events", "files", "fine-tuning", "health", "images", "keys", "messages", "metrics"),
        *("models", "moderations", "organization", "ready", "realtime", "rerank", "responses", "score", "sessions"),
        *("tasks", "threads", "tokenize", "uploads", "usage", "v1", "vector-stores", "videos", "webhooks", "ws"),
    )
)
"""Words that follow `/v1/` in OpenAI's API or in Stoker's own, now or as planned."""


class Timeouts(Section):
    connect_seconds: Seconds = 2.0
    """Seconds to reach a replica. A replica that does not accept by then is passed over."""

    first_token_seconds: Seconds = 60.0
    """Seconds from when a replica is asked for a stream to its first token. A stream that waits in the queue may wait
    up to totalSeconds: its client hears comments meanwhile."""

    between_tokens_seconds: Seconds | None = None
    """Seconds of silence between two tokens of a stream, after which it is given up. null takes firstTokenSeconds."""

    total_seconds: Seconds = 300.0
    """Seconds from the request to the end of the answer, so that no connection is held for ever."""

    def broken_rules(self) -> Iterator[Fault]:
        order = (
            ("connectSeconds", self.connect_seconds, "firstTokenSeconds", self.first_token_seconds),
            ("firstTokenSeconds", self.first_token_seconds, "totalSeconds", self.total_seconds),
        )
        for key, value, later_key, later in order:
            if value > later:
                yield Fault((key,), f"{value:g} is more than {later_key} ({later:g}); must be at most that")


class MaxWaiting(Section):
    per_tenant: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Tasks and requests of one tenant that may wait for one model. Unwritten, never more than perModel."""

    per_model: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Tasks and requests that may wait for one model, of all tenants together: they are in the memory of Redis."""

    def complete(self) -> None:
        if "per_tenant" not in self.model_fields_set:
            self.settle("per_tenant", min(self.per_tenant, self.per_model))

    def broken_rules(self) -> Iterator[Fault]:
        if self.per_tenant > self.per_model:
            yield Fault(
                ("perTenant",), f"{self.per_tenant} is more than perModel ({self.per_model}); must be at most that"
            )


class Sessions(Section):
    idle_seconds: Seconds = 300.0
    """Seconds without a request after which a gateway forgets a session. What it has spent stays spent: a session of
    the same name goes on with what is left of its budget, on the same replica."""


class Auto(Section):
    """What `model: auto` looks for beside images and code. Without these keys, such requests go on to defaultModel."""

    tools: Name | None = None
    """Model of requests that offer the model tools. null: they go by what else they hold."""

    long: Name | None = None
    """Model of requests of more than longCharacters. null: they go by what else they hold."""

    long_characters: Annotated[int, Field(ge=1, le=100_000_000)] = 24_000
    """Characters of text, system prompt included, beyond which a request is long; English has about 4 to a token."""

    hard: Name | None = None
    """Model of requests that look hard: proofs, several conditions, several steps. null: they go to defaultModel."""


Shares = Annotated[
    Mapping[Name, Annotated[int, Field(ge=0, le=1_000_000)]],
    Field(min_length=1, max_length=20),
]
"""Model to its part of the requests, in proportion to the sum."""


FileBytes = Annotated[int, Field(ge=1024, le=1 << 40)]


class Files(Section):
    max_file_bytes: FileBytes = 200 * 1024 * 1024
    """Bytes of one uploaded file at most; 200 MiB is what OpenAI takes for a batch."""

    max_tenant_bytes: FileBytes = 1024 * 1024 * 1024
    """Bytes of all files of a tenant, those that batches made included, beyond which it can upload nothing more; each
    file counts for 1024 beside what is in it. They lie in the ledger's database."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.max_file_bytes > self.max_tenant_bytes:
            yield Fault(
                ("maxFileBytes",),
                f"{self.max_file_bytes} is more than maxTenantBytes ({self.max_tenant_bytes}); must be at most that",
            )


class Batches(Section):
    max_lines: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Lines of a batch at most."""

    lines_at_once: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Lines of one batch that are in the queue at once, each with its reservation. More keep more replicas busy, and
    take more of Redis' memory."""

    per_tenant: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Batches of a tenant that have not ended, beyond which it can make none."""


class Gateway(Section):
    host: Annotated[
        str,
        StringConstraints(pattern="^[A-Za-z0-9:]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9:])?$"),
        Expected("a host name or an IP address to listen on, such as 127.0.0.1"),
    ] = "127.0.0.1"
    """Address to listen on. 127.0.0.1 is reached from this machine only; 0.0.0.0 from everywhere, and what is sent is
    not encrypted."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """TCP port to listen on. 0 takes a free one, which `stoker up` prints."""

    routes: Mapping[Name, Name] = Field(
        default={"general": "general", "code": "code", "vision": "vision"}, max_length=1000
    )
    """Prefix word to model: `code: code` serves model code under /v1/code. Unwritten, those of general, code and
    vision for which there is a model."""

    default_model: Name = "general"
    """Model of a request that leaves the choice to Stoker and holds neither an image nor code. Unwritten, the model
    called general, or else the first."""

    auto: Auto = Auto()
    """Which further models `model: auto` may choose, and for what."""

    weights: Mapping[Alias, Shares] = Field(default={}, max_length=1000)
    """Names under which clients get one of several models, for a canary: `chat: {general: 95, next: 5}` sends 5 of 100
    sessions to next. A session, or else an agent run or an end user, stays with its model."""

    max_body_bytes: Bytes = 16 * 1024 * 1024
    """Bytes of a request's body at most; 16 MiB takes a few photographs in base64."""

    max_waiting: MaxWaiting = MaxWaiting()
    """How many may wait; one more is refused (429), so that a flood fills neither the memory nor everybody's time."""
    allow_image_urls: bool = False
    """Whether http and https URLs in the parts of messages go on to the engine, which fetches them from inside your
    network; Stoker itself never fetches one. false takes data: URLs only."""

    timeouts: Timeouts = Timeouts()
    """How long a client is kept waiting."""

    files: Files = Files()
    """What clients upload to /v1/files, and what batches make."""

    batches: Batches = Batches()
    """/v1/batches: many requests in a file, done within hours."""

    sessions: Sessions = Sessions()
    """Requests that belong together: those with the same X-Session-Id, conversation or WebSocket."""

    def broken_rules(self) -> Iterator[Fault]:
        for word in self.routes:
            if word in RESERVED_ROUTES:
                yield Fault(("routes", word), f"/v1/{word} is a path of the API itself; choose another word")
        for name, shares in self.weights.items():
            if not any(shares.values()):
                yield Fault(("weights", name), "no model has a share; at least one must be more than 0")


def _refuse_secrets(parts: SplitResult) -> None:
    """The file is read by many, and its normalised form lies in the state directory."""
    if parts.password or any("pass" in key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError("holds a password")


def _redis_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("not redis, rediss or unix")
    _refuse_secrets(parts)
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError("names no host or socket")
    _ = parts.port
    return url


class ElastiCache(Section):
    enabled: bool = False
    """Redis in the cluster is ElastiCache for Valkey (`terraform/redis.tf`) instead of pods."""

    node_type: Annotated[
        str,
        StringConstraints(pattern=r"^cache\.[a-z0-9-]{2,20}\.[a-z0-9]{4,10}$"),
        Expected("a node type of ElastiCache, such as cache.r7g.large"),
    ] = "cache.r7g.large"
    """What its nodes are; docs of ElastiCache list them."""


class Redis(Section):
    enabled: bool = True
    """Run Redis with the platform; false needs `url`."""

    url: (
        Annotated[
            str,
            StringConstraints(max_length=2048, pattern="^[!-~]+$"),
            AfterValidator(_redis_url),
            Expected(
                "a redis, rediss or unix URL, such as redis://127.0.0.1:6379/0, without a password (passwordEnv names "
                "the variable that holds it)",
                secret=True,
            ),
        ]
        | None
    ) = None
    """A Redis (7 or later) or Valkey server of your own. null starts the one that comes with Stoker, which nobody else
    can reach."""

    password_env: EnvName | None = None
    """Environment variable that holds the password for `url`. null sends none."""

    architecture: Architecture = "replication"
    """Redis in the cluster: replication keeps copies of it, standalone costs less. Both survive the loss of a node."""

    master: RedisMaster = RedisMaster()
    """The Redis in the cluster that takes writes."""

    replica: RedisReplica = RedisReplica()
    """The copies of it."""

    elasticache: ElastiCache = ElastiCache()
    """ElastiCache in its place."""

    def broken_rules(self) -> Iterator[Fault]:
        if not self.enabled and self.url is None:
            yield Fault(("enabled",), "false leaves no place for tasks; write the url of your own Redis, or true")
        if self.password_env and self.url is None:
            yield Fault(("passwordEnv",), "there is no url that it belongs to; write redis.url too, or leave it out")


class DeadLetters(Section):
    sqs_queue: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,80}$|^[A-Za-z0-9_-]{1,75}\.fifo$"),
        Expected("the name of an SQS queue: at most 80 letters, digits, hyphens and underscores, or such a name .fifo"),
    ] = "stoker-dead-letters"
    """SQS queue in the region of the cluster to which dead letters go where keda.scalers.sqs is on. It has to exist."""


class Queue(Section):
    lease_seconds: Seconds = 15.0
    """Seconds for which a worker holds a task without renewing. A dead worker's task starts anew after this long; a
    live worker renews at a third of it."""

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """How often a task is tried before it goes to the dead letters."""

    retry_base_seconds: Seconds = 1.0
    """Seconds before the second attempt; doubled for each further one, with jitter."""

    retry_cap_seconds: Seconds = 60.0
    """Seconds between two attempts at most."""

    result_ttl_seconds: Seconds = 86400.0
    """Seconds for which a finished task and its result can be fetched; Redis holds them in memory that long."""

    max_body_bytes: Bytes = 1024 * 1024
    """Bytes of a task's body at most. Less than the gateway's limit because waiting tasks are kept in memory."""

    dead_letters: DeadLetters = DeadLetters()
    """What becomes of tasks that were given up."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.retry_base_seconds > self.retry_cap_seconds:
            yield Fault(
                ("retryBaseSeconds",),
                f"{self.retry_base_seconds:g} is more than retryCapSeconds ({self.retry_cap_seconds:g}); "
                "must be at most that",
            )


def _ledger_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        if not url.startswith("sqlite:///") or len(url) == len("sqlite:///"):
            raise ValueError("names no file")
        return url
    if parts.scheme.partition("+")[0] != "postgresql" or not parts.hostname:
        raise ValueError("not sqlite or postgresql with a host")
    _refuse_secrets(parts)
    _ = parts.port
    return url


DatabaseUrl = Annotated[
    str,
    StringConstraints(max_length=2048, pattern="^[!-~]+$"),
    AfterValidator(_ledger_url),
    Expected(
        "a sqlite:///FILE or postgresql://USER@HOST/DATABASE URL without a password (passwordEnv names the "
        "variable that holds it)",
        secret=True,
    ),
]


class Ledger(Section):
    url: DatabaseUrl | None = None
    """Database of usage records. null keeps them in ledger.sqlite in the state directory."""

    password_env: EnvName | None = None
    """Environment variable that holds the password for `url`. null sends none."""

    retention_days: Annotated[int, Field(ge=31, le=36500)] | None = None
    """Days after which a usage record becomes part of its day's sum for each tenant, team, key and model; totals stay
    as they are. At least 31, from whose records budgets are counted anew when Redis has lost them. null keeps every
    record."""

    audit_days: Annotated[int, Field(ge=1, le=36500)] = 400
    """Days for which what admins' keys changed is kept (`stoker audit`)."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.password_env and self.url is None:
            yield Fault(("passwordEnv",), "there is no url that it belongs to; write ledger.url too, or leave it out")
