"""The store's tables through time. Each step is written once and never changed: databases are out there at every one.

All that is missing is done in one transaction, by one process; others that start at the same time wait for it and find
nothing left to do. Steps are SQL that SQLite and PostgreSQL both take, but for the name of a column of bytes and for
the order of texts in an index.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, inspect, text

from stoker.base.errors import Unavailable

# Any number will do, as long as nothing else in this database locks the same one.
_LOCK = 0x570CE2

_FIRST = (
    """CREATE TABLE IF NOT EXISTS usage (
        id VARCHAR(64) NOT NULL PRIMARY KEY, kind VARCHAR(16) NOT NULL, status VARCHAR(16) NOT NULL,
        tenant VARCHAR(128) NOT NULL, key_id VARCHAR(64) NOT NULL, team VARCHAR(128), session VARCHAR(256),
        run VARCHAR(256), model VARCHAR(128) NOT NULL, replica VARCHAR(128), route VARCHAR(64),
        prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
        nano_usd BIGINT NOT NULL, started_at FLOAT(53) NOT NULL, first_token_at FLOAT(53), ended_at FLOAT(53) NOT NULL,
        attempts INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS usage_by_tenant ON usage (tenant, ended_at)",
    """CREATE TABLE IF NOT EXISTS keys (
        id VARCHAR(64) NOT NULL PRIMARY KEY, hash VARCHAR(64) NOT NULL UNIQUE, tenant VARCHAR(128) NOT NULL,
        name VARCHAR(128) NOT NULL, role VARCHAR(16) NOT NULL, created_at FLOAT(53) NOT NULL, revoked_at FLOAT(53))""",
)

_ACCOUNTS = (
    """CREATE TABLE tenants (
        name VARCHAR(128) NOT NULL PRIMARY KEY, source VARCHAR(16) NOT NULL, terms TEXT NOT NULL,
        created_at FLOAT(53) NOT NULL)""",
    """CREATE TABLE teams (
        tenant VARCHAR(128) NOT NULL, name VARCHAR(128) NOT NULL, source VARCHAR(16) NOT NULL, terms TEXT NOT NULL,
        created_at FLOAT(53) NOT NULL, PRIMARY KEY (tenant, name))""",
    """CREATE TABLE secrets (
        hash VARCHAR(64) NOT NULL PRIMARY KEY, key_id VARCHAR(64) NOT NULL, valid_until FLOAT(53))""",
    "CREATE INDEX secrets_by_key ON secrets (key_id)",
    "INSERT INTO tenants SELECT tenant, 'api', '{}', min(created_at) FROM keys GROUP BY tenant",
    "INSERT INTO secrets SELECT hash, id, NULL FROM keys",
    "ALTER TABLE keys RENAME TO keys_before",  # SQLite cannot drop a unique column: the table is made anew
    """CREATE TABLE keys (
        id VARCHAR(64) NOT NULL PRIMARY KEY, tenant VARCHAR(128) NOT NULL, team VARCHAR(128),
        name VARCHAR(128) NOT NULL, role VARCHAR(16) NOT NULL, prefix VARCHAR(16) NOT NULL, budgets TEXT NOT NULL,
        models TEXT, routes TEXT, created_at FLOAT(53) NOT NULL, rotated_at FLOAT(53), expires_at FLOAT(53),
        revoked_at FLOAT(53))""",
    """INSERT INTO keys (id, tenant, name, role, prefix, budgets, created_at, revoked_at)
        SELECT id, tenant, name, role, '', '{}', created_at, revoked_at FROM keys_before""",
    "DROP TABLE keys_before",
    "CREATE INDEX keys_by_tenant ON keys (tenant, id)",
    "CREATE TABLE revisions (subject VARCHAR(16) NOT NULL PRIMARY KEY, number BIGINT NOT NULL)",
    "INSERT INTO revisions VALUES ('accounts', 1)",
    "CREATE INDEX usage_by_key ON usage (key_id, ended_at)",
    "CREATE INDEX usage_by_team ON usage (tenant, team, ended_at)",
    "CREATE INDEX usage_by_session ON usage (tenant, session, ended_at)",
    "CREATE INDEX usage_by_run ON usage (tenant, run, ended_at)",
    "CREATE INDEX usage_by_time ON usage (ended_at, id)",
    """CREATE TABLE usage_days (
        day INTEGER NOT NULL, tenant VARCHAR(128) NOT NULL, team VARCHAR(128) NOT NULL, key_id VARCHAR(64) NOT NULL,
        model VARCHAR(128) NOT NULL, requests BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL, nano_usd BIGINT NOT NULL,
        PRIMARY KEY (day, tenant, team, key_id, model))""",
)

_REASONS = ("ALTER TABLE usage ADD COLUMN reason VARCHAR(200)",)

_FILES_AND_BATCHES = (
    """CREATE TABLE files (
        id VARCHAR(64) NOT NULL PRIMARY KEY, tenant VARCHAR(128) NOT NULL, state VARCHAR(16) NOT NULL,
        purpose VARCHAR(32) NOT NULL, filename VARCHAR(255) NOT NULL, bytes BIGINT NOT NULL,
        created_at FLOAT(53) NOT NULL, expires_at FLOAT(53))""",
    "CREATE INDEX files_by_tenant ON files (tenant, id)",
    "CREATE INDEX files_by_expiry ON files (expires_at)",
    """CREATE TABLE file_blocks (
        file_id VARCHAR(64) NOT NULL, number INTEGER NOT NULL, data <BYTES> NOT NULL, PRIMARY KEY (file_id, number))""",
    """CREATE TABLE batches (
        id VARCHAR(64) NOT NULL PRIMARY KEY, tenant VARCHAR(128) NOT NULL, key_id VARCHAR(64) NOT NULL,
        session VARCHAR(256), run VARCHAR(256), endpoint VARCHAR(64) NOT NULL, input_file_id VARCHAR(64) NOT NULL,
        completion_window VARCHAR(16) NOT NULL, details TEXT, output_expires_s INTEGER, status VARCHAR(16) NOT NULL,
        errors TEXT, output_file_id VARCHAR(64), error_file_id VARCHAR(64), total INTEGER NOT NULL,
        completed INTEGER NOT NULL, failed INTEGER NOT NULL, prompt_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL, created_at FLOAT(53) NOT NULL,
        expires_at FLOAT(53) NOT NULL, in_progress_at FLOAT(53), finalizing_at FLOAT(53), completed_at FLOAT(53),
        failed_at FLOAT(53), expired_at FLOAT(53), cancelling_at FLOAT(53), cancelled_at FLOAT(53),
        driver VARCHAR(64), fence BIGINT NOT NULL, beat BIGINT NOT NULL)""",
    "CREATE INDEX batches_by_tenant ON batches (tenant, id)",
    "CREATE INDEX batches_by_status ON batches (status)",
    """CREATE TABLE batch_lines (
        batch_id VARCHAR(64) NOT NULL, number INTEGER NOT NULL, state VARCHAR(16) NOT NULL, content <BYTES> NOT NULL,
        PRIMARY KEY (batch_id, number))""",
    "CREATE INDEX batch_lines_by_state ON batch_lines (batch_id, state, number)",
)

_AUDIT = (
    """CREATE TABLE audit (
        id VARCHAR(64) NOT NULL PRIMARY KEY, at FLOAT(53) NOT NULL, key_id VARCHAR(64) NOT NULL,
        request_id VARCHAR(64) NOT NULL, did VARCHAR(64) NOT NULL, object VARCHAR(200) NOT NULL,
        result VARCHAR(64) NOT NULL, before TEXT, after TEXT)""",
    "CREATE INDEX audit_by_time ON audit (at, id)",
    "CREATE INDEX audit_by_object ON audit (object, at)",
)

_AGENTS = (
    "ALTER TABLE usage ADD COLUMN agent VARCHAR(128)",
    "CREATE INDEX usage_by_agent ON usage (agent, ended_at)",
    "DROP INDEX usage_by_run",
    "CREATE INDEX usage_by_run ON usage (tenant, run <BY_BYTES>, ended_at)",
    "ALTER TABLE usage_days RENAME TO usage_days_before",  # SQLite cannot change a key: the table is made anew
    """CREATE TABLE usage_days (
        day INTEGER NOT NULL, tenant VARCHAR(128) NOT NULL, team VARCHAR(128) NOT NULL, key_id VARCHAR(64) NOT NULL,
        model VARCHAR(128) NOT NULL, agent VARCHAR(128) NOT NULL, requests BIGINT NOT NULL, steps BIGINT NOT NULL,
        prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL,
        nano_usd BIGINT NOT NULL, PRIMARY KEY (day, tenant, team, key_id, model, agent))""",
    """INSERT INTO usage_days SELECT day, tenant, team, key_id, model, '', requests, 0, prompt_tokens, cached_tokens,
        completion_tokens, nano_usd FROM usage_days_before""",
    "DROP TABLE usage_days_before",
)

_LIVES = (
    """CREATE TABLE machines (
        id VARCHAR(128) NOT NULL PRIMARY KEY, pool VARCHAR(128) NOT NULL, capacity VARCHAR(16) NOT NULL,
        type VARCHAR(64) NOT NULL, zone VARCHAR(64) NOT NULL, nano_usd_per_hour BIGINT NOT NULL,
        extra_nano_usd_per_hour BIGINT NOT NULL, began_at FLOAT(53) NOT NULL, usable_at FLOAT(53),
        seen_at FLOAT(53) NOT NULL, ended_at FLOAT(53))""",
    "CREATE INDEX machines_by_time ON machines (seen_at)",
    """CREATE TABLE stays (
        id VARCHAR(200) NOT NULL PRIMARY KEY, machine VARCHAR(128) NOT NULL, workload VARCHAR(128) NOT NULL,
        model VARCHAR(128) NOT NULL, replica VARCHAR(128) NOT NULL, share FLOAT(53) NOT NULL,
        began_at FLOAT(53) NOT NULL, ready_at FLOAT(53), seen_at FLOAT(53) NOT NULL, ended_at FLOAT(53))""",
    "CREATE INDEX stays_by_time ON stays (seen_at)",
    """CREATE TABLE phases (
        subject VARCHAR(200) NOT NULL, phase VARCHAR(32) NOT NULL, began_at FLOAT(53) NOT NULL, ended_at FLOAT(53),
        detail VARCHAR(200), PRIMARY KEY (subject, phase))""",
    "CREATE INDEX phases_by_time ON phases (began_at)",
    """CREATE TABLE price_steps (
        type VARCHAR(64) NOT NULL, zone VARCHAR(64) NOT NULL, capacity VARCHAR(16) NOT NULL, at FLOAT(53) NOT NULL,
        nano_usd_per_hour BIGINT NOT NULL, PRIMARY KEY (type, zone, capacity, at))""",
)

_ALERTS = (
    """CREATE TABLE alerts (
        channel VARCHAR(16) NOT NULL, counter VARCHAR(200) NOT NULL, amount BIGINT NOT NULL,
        threshold INTEGER NOT NULL, body TEXT NOT NULL, raised_at FLOAT(53) NOT NULL, ends_at FLOAT(53),
        state VARCHAR(16) NOT NULL, tries INTEGER NOT NULL, due_at FLOAT(53) NOT NULL, told_at FLOAT(53),
        error VARCHAR(200), PRIMARY KEY (channel, counter, amount, threshold))""",
    "CREATE INDEX alerts_by_due ON alerts (state, due_at)",
    "CREATE INDEX alerts_by_end ON alerts (ends_at)",
)

_ENDS = ("ALTER TABLE machines ADD COLUMN why VARCHAR(64) NOT NULL DEFAULT ''",)

STEPS: Sequence[Sequence[str]] = (
    _FIRST,
    _ACCOUNTS,
    _REASONS,
    _FILES_AND_BATCHES,
    _AUDIT,
    _AGENTS,
    _LIVES,
    _ALERTS,
    _ENDS,
)
"""Step n leads from version n to n + 1. Before there were versions, databases were at 1 without saying so; the first
step finds its tables there and leaves them."""

LATEST = len(STEPS)


def version_of(connection: Connection) -> int:
    """0 for a database that is empty, or older than versions."""
    if not inspect(connection).has_table("schema_version"):
        return 0
    return int(connection.execute(text("SELECT version FROM schema_version")).scalar_one())


def migrate(connection: Connection) -> None:
    """Bring the database to `LATEST`. The transaction must be one that writes (`Store.transaction`). Raises Unavailable
    when the database is of a later version than this program knows."""
    is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql:
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    version = version_of(connection)
    if version > LATEST:
        raise Unavailable(
            f"the ledger's database is of version {version}; this Stoker knows versions up to {LATEST}",
            code="ledger_unavailable",
            hint="a newer Stoker has used it: upgrade this one",
        )
    if version == LATEST:
        return
    for step in STEPS[version:]:
        for statement in step:
            statement = statement.replace("<BYTES>", "BYTEA" if is_postgresql else "BLOB")
            connection.execute(text(statement.replace("<BY_BYTES>", "varchar_pattern_ops" if is_postgresql else "")))
    if version == 0:
        connection.execute(text("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)"))
        connection.execute(text("INSERT INTO schema_version VALUES (:version)"), {"version": LATEST})
    else:
        connection.execute(text("UPDATE schema_version SET version = :version"), {"version": LATEST})
