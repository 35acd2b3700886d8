"""Published weights: folders below one place, each bound to the digest of what is in it.

    MODEL/versions/DIGEST/{config.json, tokenizer.json, model.safetensors, ..., card.json}
    MODEL/CURRENT          JSON: which version is served, moved by compare-and-swap; holds those before, to go back

DIGEST is sha256 over the sorted (name, sha256) of the files, `card.json` aside; what is evaluated has it, and so has
what is served.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.base.ids import new_id
from stoker.registry import cards
from stoker.registry.cards import Current, Version
from stoker.registry.stores import Changed, Store
from stoker.registry.weights import CARD, SLICE_BYTES, check, digest_of, digest_over, mapped, short

_CARD_BYTES = 4 << 20
_CURRENT_BYTES = 64 << 10
_TRIES = 5
_FILE_S = 3600.0
"""For one file, which may be of many gigabytes."""


def _untold(_: str) -> None:
    """For those whom nobody listens to."""


class Models:
    def __init__(self, store: Store) -> None:
        self.store = store

    def publish(
        self, model: str, folder: Path, card: Mapping[str, Any], *, now: float, tell: Callable[[str], None] = _untold
    ) -> Version:
        """Idempotent: the same files are the same version, and are not written again. The last thing written is
        `card.json`; a version without it is not one. Begun again after it was broken off, it goes on. What is there is
        read, and what is damaged or missing of a version is told and written anew. The first card stays, but for
        `evaluation`: a verdict that is new is written to it."""
        prefix = _prefix(model)
        digest, files = digest_of(folder)
        wrong = next((name for name in files if not cards.is_file_name(name)), None)
        if wrong is not None:
            raise InvalidInput(f"{folder / wrong} has a name that cannot be published; letters, digits and . _ - can")
        place = f"{prefix}versions/{digest}/"
        was_whole = any(self.store.list(place + CARD))
        for name, sha256 in files.items():
            there = self._sha256(place + name)
            if there == sha256:
                continue
            if there is not None or was_whole:
                tell(self._mended(place + name, "missing" if there is None else "damaged"))
            with mapped(folder / name) as parts:
                self.store.put(place + name, parts, timeout_s=_FILE_S)
        return self._put_card(Version(model, digest, files, dict(card), now), tell)

    def _put_card(self, new: Version, tell: Callable[[str], None]) -> Version:
        key = self.place(new) + CARD
        for _ in range(_TRIES):
            etag, known = None, None
            with contextlib.suppress(NotFound):
                data, etag = self.store.read(key, most_bytes=_CARD_BYTES)
                with contextlib.suppress(Conflict):
                    known = self._from_card(new.model, new.digest, data)
            wanted = new if known is None else cards.with_verdict_of(new, known)
            if known is not None and cards.to_bytes(wanted) == cards.to_bytes(known):
                return known
            with contextlib.suppress(Changed):  # somebody else has just published the same
                self.store.put(key, [cards.to_bytes(wanted)], if_absent=etag is None, if_match=etag)
                if etag is not None and known is None:
                    tell(self._mended(key, "damaged"))
                return wanted
        raise Changed(f"{key} in {self.store.url} is written by others all the time; this gave up after {_TRIES} tries")

    def _mended(self, key: str, how: str) -> str:
        return f"{key} in {self.store.url} was {how}, and is written anew"

    def promote(self, version: Version, *, expect: str | None = None) -> None:
        """Make it the one that is served. Raises Changed when `expect` (a digest) is not the one now."""
        self._version(version.model, version.digest)

        def to(now: Current | None) -> Current:
            if expect is not None and (now is None or now.digest != expect):
                served = "nothing" if now is None else short(now.digest)
                raise Changed(
                    f"{version.model} serves {served} now, and not {short(expect)}",
                    hint="somebody else has promoted a version; look at it, and do it again",
                )
            if now is None:
                return Current(version.digest)
            if now.digest == version.digest:
                return now
            return Current(version.digest, (now.digest, *now.before))

        self._move(version.model, to)

    def before(self, model: str) -> Version:
        """The version that `back` goes to. Raises Conflict when there is none."""
        found = self._current(model)
        return self._version(model, _before(model, None if found is None else found[0])[0])

    def back(self, model: str, *, expect: str | None = None) -> Version:
        """Serve the version before the one that is served now, and forget that one as the one to go back to. Raises
        Conflict when there is none; Changed when `expect` (a digest) is not the one before."""

        def to(now: Current | None) -> Current:
            digest, *before = _before(model, now)
            if expect is not None and digest != expect:
                raise Changed(
                    f"before the version that {model} serves now is {short(digest)}, and not {short(expect)}",
                    hint="somebody else has promoted a version, or gone back; look at it, and do it again",
                )
            self._version(model, digest)
            return Current(digest, tuple(before))

        return self._version(model, self._move(model, to).digest)

    def served(self, model: str) -> str | None:
        """The digest of the version that is served, whether that is whole or not."""
        found = self._current(model)
        return None if found is None else found[0].digest

    def current(self, model: str) -> Version | None:
        found = self._current(model)
        return None if found is None else self._version(model, found[0].digest)

    def version(self, model: str, digest: str) -> Version:
        """By the beginning of its digest, if that is enough. Raises NotFound, which names those that there are."""
        found = [each for each in self.versions(model) if digest and each.digest.startswith(digest)]
        if len(found) != 1:
            there = ", ".join(short(each.digest) for each in self.versions(model)) or "none"
            problem = "no version" if not found else "several versions"
            raise NotFound(f"{model} has {problem} {digest}; there are: {there}")
        return found[0]

    def versions(self, model: str) -> list[Version]:
        """Oldest first."""
        prefix = f"{_prefix(model)}versions/"
        digests = [stat.key[len(prefix) : -len(CARD) - 1] for stat in self.store.list(prefix) if _is_card(stat.key)]
        found = [self._version(model, digest) for digest in digests if cards.is_digest(digest)]
        return sorted(found, key=lambda each: (each.created_at, each.digest))

    def fetch(self, version: Version, folder: Path) -> None:
        """Verified, file by file; all or nothing. Raises Conflict when a file is not what its digest says."""
        if folder.exists():
            check(folder, version.digest)
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".{folder.name}.{new_id('part')}")
        part.mkdir()
        try:
            for name, sha256 in version.files.items():
                self._fetch_file(version, name, sha256, part / name)
            (part / CARD).write_bytes(cards.to_bytes(version))
            check(part, version.digest)
            with contextlib.suppress(FileExistsError):
                part.rename(folder)
                return
            check(folder, version.digest)  # somebody else was quicker
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def verify(self, version: Version) -> None:
        """Reads all of it. Raises Conflict, which names a file that is missing or is not what was published."""
        for name, sha256 in version.files.items():
            self._check_file(version, name, sha256, self._sha256(self.place(version) + name))

    def place(self, version: Version) -> str:
        """Where the files of a version are, as a prefix of keys in the store."""
        return f"{_prefix(version.model)}versions/{version.digest}/"

    def _pieces(self, key: str) -> Iterator[bytes]:
        size = self.store.stat(key).size_bytes
        for start in range(0, size, SLICE_BYTES):
            yield self.store.get(key, start=start, length=min(SLICE_BYTES, size - start), timeout_s=_FILE_S)

    def _sha256(self, key: str) -> str | None:
        """Of what is there, if anything is."""
        found = hashlib.sha256()
        try:
            for data in self._pieces(key):
                found.update(data)
        except NotFound:
            return None
        return found.hexdigest()

    def _fetch_file(self, version: Version, name: str, sha256: str, path: Path) -> None:
        found, there = hashlib.sha256(), True
        with path.open("xb") as file:
            try:
                for data in self._pieces(self.place(version) + name):
                    found.update(data)
                    file.write(data)
            except NotFound:
                there = False
        self._check_file(version, name, sha256, found.hexdigest() if there else None)

    def _check_file(self, version: Version, name: str, sha256: str, found: str | None) -> None:
        if found == sha256:
            return
        what = f"{version.model} {short(version.digest)} lacks its {name}"
        if found is not None:
            what = (
                f"{self.place(version)}{name} in {self.store.url} is not what was published: its sha256 is "
                f"{short(found)}, and not {short(sha256)}"
            )
        hint = "`stoker register RUN.yaml` writes it anew while its checkpoint is the newest of the run"
        raise Conflict(what, code="weights_changed", hint=hint)

    def _move(self, model: str, to: Callable[[Current | None], Current]) -> Current:
        for _ in range(_TRIES):
            found = self._current(model)
            now, etag = found if found is not None else (None, None)
            wanted = to(now)
            if wanted == now:
                return wanted
            key, data = f"{_prefix(model)}CURRENT", cards.current_to_bytes(wanted)
            with contextlib.suppress(Changed):
                self.store.put(key, [data], if_absent=etag is None, if_match=etag)
                return wanted
        raise Changed(f"{model} is promoted by others all the time; this gave up after {_TRIES} tries")

    def _current(self, model: str) -> tuple[Current, str] | None:
        key = f"{_prefix(model)}CURRENT"
        try:
            data, etag = self.store.read(key, most_bytes=_CURRENT_BYTES)
        except NotFound:
            return None
        try:
            return cards.current_from_bytes(data), etag
        except ValueError as error:
            raise Conflict(
                f"{key} in {self.store.url} is damaged: {error}",
                hint="remove it, and register the model again; versions are not touched",
            ) from error

    def _version(self, model: str, digest: str) -> Version:
        key = f"{_prefix(model)}versions/{digest}/{CARD}"
        try:
            data, _ = self.store.read(key, most_bytes=_CARD_BYTES)
        except NotFound as error:
            raise NotFound(f"{model} has no version {short(digest)} in {self.store.url}") from error
        return self._from_card(model, digest, data)

    def _from_card(self, model: str, digest: str, data: bytes) -> Version:
        key = f"{_prefix(model)}versions/{digest}/{CARD}"
        try:
            found = cards.from_bytes(data)
        except ValueError as error:
            raise Conflict(f"{key} in {self.store.url} is damaged: {error}", code="weights_changed") from error
        if found.digest != digest or digest_over(found.files) != digest:
            raise Conflict(f"{key} in {self.store.url} is the card of another version", code="weights_changed")
        return Version(model, digest, found.files, found.card, found.created_at)


def _before(model: str, now: Current | None) -> tuple[str, ...]:
    if now is None or not now.before:
        raise Conflict(f"{model} has no version before the one that is served", code="nothing_before")
    return now.before


def _is_card(key: str) -> bool:
    return key.endswith("/" + CARD)


def _prefix(model: str) -> str:
    if cards.MODEL.match(model) is None:
        raise InvalidInput(f"{model!r} cannot be a model's name; letters, digits and . _ - can", param="model")
    return f"{model}/"


__all__ = ["Models", "Version", "digest_of"]
