"""Files in the store, in blocks, so that nobody ever holds a whole one: those that clients upload, and the output of
batches. A file belongs to a tenant.

One that is being written is seen by nobody until it is finished. Whoever writes it and dies leaves it to expire.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, or_, select, update

from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import NotFound, TooLarge
from stoker.base.ids import new_id
from stoker.meter.store import Store
from stoker.meter.tables import file_blocks, files, tenants

BLOCK_BYTES = 256 * 1024
# Of a file that is being written, each block gives it so long until the next.
WRITING_S = 600.0
# What a file counts for at least: its row, and a bound on how many there can be.
LEAST_BYTES = 1024
# Blocks that are deleted in one transaction, so that nobody who writes waits for long: 16 MiB.
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class File:
    """Times are seconds since the epoch; `expires_at` is None for one that stays."""

    id: str
    tenant: str
    purpose: str
    filename: str
    bytes: int
    created_at: float
    expires_at: float | None


class FileStore:
    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()

    # --- writing ------------------------------------------------------------------------------------------------------

    def begin(self, tenant: str) -> str:
        """The id of a new file, which is being written from now on."""
        now = self._clock.now()
        # As OpenAI's look: some clients know a file by it.
        file_id = new_id("file", now).replace("_", "-", 1)
        with self._store.transaction() as connection:
            connection.execute(
                insert(files).values(
                    id=file_id,
                    tenant=tenant,
                    state="writing",
                    purpose="",
                    filename="",
                    bytes=0,
                    created_at=now,
                    expires_at=now + WRITING_S,
                )
            )
        return file_id

    def append(self, file_id: str, number: int, data: bytes, *, most_of_tenant: int | None = None) -> None:
        """The next block of a file that is being written. Raises TooLarge when the tenant's files would have more bytes
        than `most_of_tenant`; NotFound when nobody is writing it (any more)."""
        with self._store.transaction() as connection:
            row = connection.execute(_writing(file_id)).first()
            if row is None:
                raise _not_written(file_id)
            if most_of_tenant is not None:
                _refuse_more(connection, row.tenant, len(data), most_of_tenant)
            until = self._clock.now() + WRITING_S
            grown = update(files).where(files.c.id == file_id).values(bytes=files.c.bytes + len(data), expires_at=until)
            connection.execute(grown)
            connection.execute(insert(file_blocks).values(file_id=file_id, number=number, data=data))

    def finish(self, file_id: str, *, purpose: str, filename: str, expires_after_s: float | None) -> File:
        """From now on it is there. Raises NotFound as `append`."""
        with self._store.transaction() as connection:
            return finish(connection, file_id, purpose, filename, self._clock.now(), expires_after_s)

    def give_up(self, file_id: str) -> None:
        """Whatever was written of it is gone."""
        with self._store.transaction() as connection:
            if connection.execute(_writing(file_id)).first() is None:
                return
            self._hide(connection, file_id)
        self._remove(file_id)

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, file_id: str, *, tenant: str | None) -> File:
        """`tenant`: whose it has to be; None: anybody's. Raises NotFound."""
        with self._store.reading() as connection:
            return self._get(connection, file_id, tenant)

    def list(
        self,
        tenant: str,
        *,
        purpose: str | None = None,
        limit: int = 10_000,
        after: str | None = None,
        newest_first: bool = True,
    ) -> list[File]:
        """By the time when they were made, from the one after the id `after`."""
        query = select(files).where(files.c.tenant == tenant, *self._there()).limit(limit)
        query = query.order_by(files.c.id.desc() if newest_first else files.c.id)
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        if after is not None:
            query = query.where(files.c.id < after if newest_first else files.c.id > after)
        with self._store.reading() as connection:
            return [_file(row) for row in connection.execute(query)]

    def blocks(self, file_id: str) -> Iterator[bytes]:
        """What is in it, a block at a time, each read when it is asked for. Raises NotFound when it is deleted in the
        middle."""
        number = 0
        left = self.get(file_id, tenant=None).bytes
        while left > 0:
            data = self._block(file_id, number)
            yield data
            number += 1
            left -= len(data)

    def _block(self, file_id: str, number: int) -> bytes:
        one = (file_blocks.c.file_id == file_id, file_blocks.c.number == number)
        with self._store.reading() as connection:
            data = connection.execute(select(file_blocks.c.data).where(*one)).scalar_one_or_none()
        if data is None:
            raise unknown(file_id)
        return bytes(data)

    def delete(self, file_id: str, *, tenant: str | None) -> None:
        """Raises NotFound, as `get`."""
        with self._store.transaction() as connection:
            self._get(connection, file_id, tenant)
            self._hide(connection, file_id)
        self._remove(file_id)

    def sweep(self) -> int:
        """Delete what has expired, and what somebody had begun to delete; how many there were."""
        with self._store.reading() as connection:  # usually there are none, and nobody who writes has to wait
            expired = list(
                connection.execute(select(files.c.id).where(files.c.expires_at <= self._clock.now())).scalars()
            )
        for file_id in expired:
            self._remove(file_id)
        return len(expired)

    def _hide(self, connection: Connection, file_id: str) -> None:
        gone = {"state": "gone", "expires_at": self._clock.now()}
        connection.execute(update(files).where(files.c.id == file_id).values(gone))

    def _remove(self, file_id: str) -> None:
        """Of one that nobody sees any more. It counts for its tenant until all of it is gone."""
        some = select(file_blocks.c.number).where(file_blocks.c.file_id == file_id).limit(_AT_ONCE)
        while True:
            with self._store.transaction() as connection:
                numbers = list(connection.execute(some).scalars())
                these = (file_blocks.c.file_id == file_id, file_blocks.c.number.in_(numbers))
                connection.execute(delete(file_blocks).where(*these))
                if len(numbers) < _AT_ONCE:
                    connection.execute(delete(files).where(files.c.id == file_id))
                    return

    def _get(self, connection: Connection, file_id: str, tenant: str | None) -> File:
        query = select(files).where(files.c.id == file_id, *self._there())
        if tenant is not None:
            query = query.where(files.c.tenant == tenant)
        row = connection.execute(query).first()
        if row is None:
            raise unknown(file_id)
        return _file(row)

    def _there(self) -> tuple[Any, ...]:
        until = or_(files.c.expires_at.is_(None), files.c.expires_at > self._clock.now())
        return files.c.state == "there", until


def unknown(file_id: str) -> NotFound:
    return NotFound(f"there is no file {file_id!r}", code="file_not_found")


def finish(
    connection: Connection, file_id: str, purpose: str, filename: str, now: float, expires_after_s: float | None
) -> File:
    """In a transaction of the caller's."""
    row = connection.execute(_writing(file_id)).first()
    if row is None:
        raise _not_written(file_id)
    expires_at = None if expires_after_s is None else row.created_at + expires_after_s
    values = {"state": "there", "purpose": purpose, "filename": filename, "expires_at": expires_at}
    connection.execute(update(files).where(files.c.id == file_id).values(values))
    return File(file_id, row.tenant, purpose, filename, row.bytes, row.created_at, expires_at)


def _writing(file_id: str) -> Select[Any]:
    return select(files).where(files.c.id == file_id, files.c.state == "writing").with_for_update()


def _not_written(file_id: str) -> NotFound:
    return NotFound(f"file {file_id} is not being written any more", code="file_not_found", hint="upload it again")


def _refuse_more(connection: Connection, tenant: str, more: int, most: int) -> None:
    """One upload of the tenant at a time looks and grows: SQLite has one writer, PostgreSQL locks the tenant's row."""
    connection.execute(select(tenants.c.name).where(tenants.c.name == tenant).with_for_update())
    sums = select(func.coalesce(func.sum(files.c.bytes), 0), func.count()).where(files.c.tenant == tenant)
    has, count = connection.execute(sums).one()
    taken = int(has) + LEAST_BYTES * count
    if taken + more > most:
        raise TooLarge(
            f"the files of tenant {tenant} take {taken} bytes ({LEAST_BYTES} for each file beside what is in it), and "
            f"may take {most}",
            code="files_full",
            hint="delete some, or raise gateway.files.maxTenantBytes",
        )


def _file(row: Any) -> File:
    return File(
        row.id,
        row.tenant,
        row.purpose,
        row.filename,
        row.bytes,
        row.created_at,
        row.expires_at,
    )
