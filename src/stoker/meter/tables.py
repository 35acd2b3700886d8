"""The tables of the store, as queries see them. `migrations.py` makes them, step by step; a test holds the two equal.

Terms and budgets are JSON texts of the spec's sections, in the names of platform.yaml, without what has its default.
Times are seconds since the epoch. Names that may be missing are null, except in `usage_days`, whose key they are in.
"""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

usage = Table(
    "usage",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("team", String(128)),
    Column("session", String(256)),
    Column("run", String(256)),
    Column("model", String(128), nullable=False),
    Column("replica", String(128)),
    Column("route", String(64)),
    Column("prompt_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
    Column("started_at", Float(53), nullable=False),
    Column("first_token_at", Float(53)),
    Column("ended_at", Float(53), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("reason", String(200)),
    Column("agent", String(128)),
    # One for each scope whose counters are rebuilt from here, and one for what reads by time alone.
    Index("usage_by_tenant", "tenant", "ended_at"),
    Index("usage_by_key", "key_id", "ended_at"),
    Index("usage_by_team", "tenant", "team", "ended_at"),
    Index("usage_by_session", "tenant", "session", "ended_at"),
    # By bytes, whatever the database's language is: the runs below `a.1` are those from `a.1.` to `a.1/`.
    Index("usage_by_run", "tenant", "run", "ended_at", postgresql_ops={"run": "varchar_pattern_ops"}),
    Index("usage_by_agent", "agent", "ended_at"),
    Index("usage_by_time", "ended_at", "id"),
)

usage_days = Table(
    "usage_days",
    metadata,
    Column("day", Integer, primary_key=True),  # days since the epoch, UTC
    Column("tenant", String(128), primary_key=True),
    Column("team", String(128), primary_key=True),  # "" for none
    Column("key_id", String(64), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("agent", String(128), primary_key=True),  # "" for none
    Column("requests", BigInteger, nullable=False),
    Column("steps", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
)
"""What is kept of usage records that were pruned."""

tenants = Table(
    "tenants",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("source", String(16), nullable=False),
    Column("terms", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
)

teams = Table(
    "teams",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("source", String(16), nullable=False),
    Column("terms", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("team", String(128)),
    Column("name", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("budgets", Text, nullable=False),
    Column("models", Text),
    Column("routes", Text),
    Column("created_at", Float(53), nullable=False),
    Column("rotated_at", Float(53)),
    Column("expires_at", Float(53)),
    Column("revoked_at", Float(53)),
    Index("keys_by_tenant", "tenant", "id"),
)

secrets = Table(
    "secrets",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("key_id", String(64), nullable=False),
    Column("valid_until", Float(53)),  # null: as long as the key
    Index("secrets_by_key", "key_id"),
)
"""Every secret that a key ever had, so that one that was replaced is never taken for a new one."""

audit = Table(
    "audit",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("did", String(64), nullable=False),
    Column("object", String(200), nullable=False),
    Column("result", String(64), nullable=False),
    Column("before", Text),
    Column("after", Text),
    Index("audit_by_time", "at", "id"),
    Index("audit_by_object", "object", "at"),
)
"""What admins' keys changed; before and after are JSON."""

revisions = Table(
    "revisions",
    metadata,
    Column("subject", String(16), primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""How often what gateways keep in memory was changed: they look at this one number, not at every key."""

files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("expires_at", Float(53)),
    Index("files_by_tenant", "tenant", "id"),
    Index("files_by_expiry", "expires_at"),
)

file_blocks = Table(
    "file_blocks",
    metadata,
    Column("file_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
"""What is in a file, in pieces of a size that a process can hold many of."""

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("session", String(256)),
    Column("run", String(256)),
    Column("endpoint", String(64), nullable=False),
    Column("input_file_id", String(64), nullable=False),
    Column("completion_window", String(16), nullable=False),
    Column("details", Text),  # JSON: the client's own metadata
    Column("output_expires_s", Integer),
    Column("status", String(16), nullable=False),
    Column("errors", Text),  # JSON: why it failed
    Column("output_file_id", String(64)),
    Column("error_file_id", String(64)),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("in_progress_at", Float(53)),
    Column("finalizing_at", Float(53)),
    Column("completed_at", Float(53)),
    Column("failed_at", Float(53)),
    Column("expired_at", Float(53)),
    Column("cancelling_at", Float(53)),
    Column("cancelled_at", Float(53)),
    Column("driver", String(64)),  # null: nobody drives it
    Column("fence", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
    Index("batches_by_tenant", "tenant", "id"),
    Index("batches_by_status", "status"),
)
"""Only who drives a batch under its newest `fence` changes it or its lines; `beat` grows as long as that one lives."""

batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index("batch_lines_by_state", "batch_id", "state", "number"),
)
"""A line of a batch that has not ended: what was asked for, and then what came of it."""

machines = Table(
    "machines",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("pool", String(128), nullable=False),
    Column("capacity", String(16), nullable=False),
    Column("type", String(64), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("nano_usd_per_hour", BigInteger, nullable=False),
    Column("extra_nano_usd_per_hour", BigInteger, nullable=False),
    Column("began_at", Float(53), nullable=False),
    Column("usable_at", Float(53)),
    Column("seen_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
    Column("why", String(64), nullable=False, server_default=""),
    Index("machines_by_time", "seen_at"),
)
"""What is paid for by time. `extra`: volumes and fees of it."""

stays = Table(
    "stays",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("machine", String(128), nullable=False),
    Column("workload", String(128), nullable=False),
    Column("model", String(128), nullable=False),  # "" for what serves none
    Column("replica", String(128), nullable=False),  # as usage records name it; "" for none
    Column("share", Float(53), nullable=False),
    Column("began_at", Float(53), nullable=False),
    Column("ready_at", Float(53)),
    Column("seen_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
    Index("stays_by_time", "seen_at"),
)
"""Who had a part of a machine."""

phases = Table(
    "phases",
    metadata,
    Column("subject", String(200), primary_key=True),  # the id of a machine or of a stay
    Column("phase", String(32), primary_key=True),
    Column("began_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
    Column("detail", String(200)),
    Index("phases_by_time", "began_at"),
)
"""How machines and replicas started."""

price_steps = Table(
    "price_steps",
    metadata,
    Column("type", String(64), primary_key=True),
    Column("zone", String(64), primary_key=True),
    Column("capacity", String(16), primary_key=True),
    Column("at", Float(53), primary_key=True),
    Column("nano_usd_per_hour", BigInteger, nullable=False),
)
"""What an offering cost from a moment on."""

alerts = Table(
    "alerts",
    metadata,
    # Of one counter (in one window, with one limit) each threshold is told once on each channel.
    Column("channel", String(16), primary_key=True),
    Column("counter", String(200), primary_key=True),
    Column("amount", BigInteger, primary_key=True),  # the limit
    Column("threshold", Integer, primary_key=True),  # in millionths of it
    Column("body", Text, nullable=False),
    Column("raised_at", Float(53), nullable=False),
    Column("ends_at", Float(53)),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due_at", Float(53), nullable=False),
    Column("told_at", Float(53)),
    Column("error", String(200)),
    Index("alerts_by_due", "state", "due_at"),
    Index("alerts_by_end", "ends_at"),
)
"""That budgets are being used up: who is told, and who was."""

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))
