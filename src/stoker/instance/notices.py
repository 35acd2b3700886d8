"""Whether the machine below is taken away: looks at instance metadata, again and again, and says what stands.

The worker's loop, and a thread of each node that trains, call `look` and act on what it returns. When a notice stands
and until when work may go on then is decided in `policy.leaving`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput, StokerError, Unreachable, UpstreamError
from stoker.instance.metadata import Metadata, endpoint
from stoker.policy.leaving import Notice, Standing, looked, unanswered
from stoker.spec import Spot

_log = logs.get(__name__)

# How often a file is looked for, and the service that it names asked: a drill is watched by somebody.
FILE_POLL_S = 0.25
# A URL is shorter than this.
_MOST_BYTES = 4096


class Place(Protocol):
    def metadata(self) -> Metadata | None:
        """The service to ask now; None: there is none, and so no notice. Raises InvalidInput."""

    def close(self) -> None: ...


class Instance:
    """The service of the instance that this process runs on."""

    def __init__(self, url: str, clock: Clock) -> None:
        """Raises InvalidInput when that is no URL of one."""
        self._metadata = Metadata(url, clock=clock)

    def metadata(self) -> Metadata:
        return self._metadata

    def close(self) -> None:
        self._metadata.close()


class NamedInFile:
    """The service whose URL stands in a file, as long as the file is there: how a drill reaches a worker."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._metadata: Metadata | None = None

    def metadata(self) -> Metadata | None:
        url = self._url()
        if self._metadata is None or url != self._metadata.url:
            self.close()
            self._metadata = None if url is None else Metadata(url, clock=self._clock)
        return self._metadata

    def close(self) -> None:
        if self._metadata is not None:
            self._metadata.close()
            self._metadata = None

    def _url(self) -> str | None:
        try:
            with self._path.open("rb") as file:
                return file.read(_MOST_BYTES).decode("ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise InvalidInput(f"{self._path} cannot be read: {exc}") from exc


class Watcher:
    """`is_sure`: look at every instance. Otherwise only at one that says, at first, that it is a spot instance."""

    def __init__(self, place: Place, *, poll_s: float, reserve_s: float, leaves_on_rebalance: bool, is_sure: bool):
        self.poll_s = poll_s
        self.reserve_s = reserve_s
        self.is_over = False
        """Nothing will ever come of a look here."""
        self.recommended: str | None = None
        """Since when AWS recommends to rebalance, as it says it: a new recommendation has another time."""
        self.trouble: StokerError | None = None
        """Why the latest look was not answered; None: it was, or nobody is there who could."""
        self._place = place
        self._leaves_on_rebalance = leaves_on_rebalance
        self._is_sure = is_sure
        self._standing = Standing()
        self._was_answered: bool | None = None  # the latest look; None: there was none yet

    async def look(self) -> Notice | None:
        """The notice that stands now. Never raises for what the service does or does not say: that is logged, and no
        notice comes or goes with it."""
        try:
            metadata = self._place.metadata()
            if metadata is not None and not self._is_sure:
                await self._make_sure(metadata)
            found = None if metadata is None or self.is_over else await self._found(metadata)
        except StokerError as error:
            self._unanswered(error)
        else:
            self._was_answered = True
            self.trouble = None
            self._standing = looked(self._standing, found)
        return self._standing.notice

    def close(self) -> None:
        self._place.close()

    async def _make_sure(self, metadata: Metadata) -> None:
        life_cycle = await metadata.life_cycle()
        self.is_over = life_cycle != "spot"
        self._is_sure = True
        if not self.is_over:
            _log.info("watching for spot notices", url=metadata.url)

    async def _found(self, metadata: Metadata) -> Notice | None:
        notice = await metadata.notice()
        if notice is not None:
            return notice
        since = await self._recommended(metadata)
        if since is not None and since != self.recommended:
            _log.info("rebalance recommended", since=since, leaves=self._leaves_on_rebalance)
        self.recommended = since
        return Notice("rebalance") if since is not None and self._leaves_on_rebalance else None

    async def _recommended(self, metadata: Metadata) -> str | None:
        try:
            return await metadata.rebalance()
        except StokerError as error:
            if self._leaves_on_rebalance:
                raise
            _log.debug("no word on rebalancing", error=error.in_log)
            return self.recommended  # it decides nothing, so what else was said counts

    def _unanswered(self, error: StokerError) -> None:
        """Told once until the service answers again."""
        if not self._is_sure and self._is_elsewhere(error):
            self.is_over = True
        elif self._was_answered is not False:
            _log.warning(
                "no word from the instance metadata; no notice comes or goes by that",
                error=error.in_log,
                hint=error.hint,
            )
        self._was_answered = False
        self.trouble = None if self.is_over else error
        self._standing = unanswered(self._standing)

    def _is_elsewhere(self, error: StokerError) -> bool:
        """At first: nobody is there, as on a laptop, or somebody who knows no tokens, as in another cloud."""
        is_refused = isinstance(error, UpstreamError) and 400 <= (error.upstream_status or 500) < 500
        return is_refused or (isinstance(error, Unreachable) and self._was_answered is None)


def watcher(spot: Spot, file: Path | None, environ: Mapping[str, str], clock: Clock) -> Watcher | None:
    """What `platform.yaml` asks for; None: nobody looks. A file takes the place of the instance, whatever `spot.watch`
    says. Raises InvalidInput when the environment holds a URL that is none."""
    place: Place | None = None
    if file is not None:
        place = NamedInFile(file, clock)
    elif spot.watch is not False and (url := endpoint(environ)) is not None:
        place = Instance(url, clock)
    if place is None:
        return None
    return Watcher(
        place,
        poll_s=spot.poll_seconds if file is None else FILE_POLL_S,
        reserve_s=spot.reserve_seconds,
        leaves_on_rebalance=spot.on_rebalance == "leave",
        is_sure=file is not None or spot.watch is True,
    )
