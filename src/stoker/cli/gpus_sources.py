"""Where `stoker gpus` learns of GPUs: exporters and files, Prometheus, NVML, the engines of a running `stoker up`.

Answers are bounded in bytes and in time, since any URL can be named.
"""

import http.client
import json
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

from stoker.base.errors import InvalidInput, StokerError, TimedOut, TooLarge, Unavailable
from stoker.base.terminal import printable
from stoker.policy.gpu_health import Gpu, Holder, Look

MOST_BYTES = 32 * 1024 * 1024
"""An exporter says some 10 kB for each GPU; Prometheus some 4 kB for each GPU and step."""
WITHIN_S = 10.0
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found: looks, oldest first, and a note for each source that could not be read."""

    looks: Sequence[Look]
    notes: Sequence[str] = ()


Source = Callable[[], Seen]


def from_places(places: Sequence[str], now: Callable[[], float] = time.time) -> Seen:
    """One look at all exporters and files. Those that fail are noted; when all do, the first one's error is raised."""
    with ThreadPoolExecutor(min(len(places), _AT_ONCE)) as pool:
        results = list(pool.map(_place, places))
    found = [each for each in results if not isinstance(each, StokerError)]
    failed = [each for each in results if isinstance(each, StokerError)]
    if not found:
        raise failed[0]
    gpus = [gpu for each in found for gpu in each]
    return Seen([Look(now(), gpus, frozenset(gpu.node for gpu in gpus))], [each.message for each in failed])


def _place(place: str) -> list[Gpu] | StokerError:
    from stoker.telemetry import dcgm

    try:
        text = fetch(place) if "://" in place else _file(Path(place))
        found = dcgm.read(text, shown(place))
    except StokerError as error:
        return error
    where = urlsplit(place).hostname if "://" in place else Path(place).name
    return [gpu if gpu.node else replace(gpu, node=where or place) for gpu in found]


def from_prometheus(url: str, for_s: float, every_s: float, now: float) -> Seen:
    """What a Prometheus has: now, or each `every_s` of the last `for_s` seconds."""
    from stoker.telemetry import dcgm

    if for_s > 0:
        times = {"start": repr(now - for_s), "end": repr(now), "step": f"{every_s:g}"}
        address = _api(url, "query_range", {"query": dcgm.QUERY, **times})
    else:
        address = _api(url, "query", {"query": dcgm.QUERY, "time": repr(now)})
    try:
        answer = json.loads(fetch(address, name=shown(url)))
    except ValueError as error:
        raise InvalidInput(
            f"{shown(url)} does not answer as Prometheus does: no JSON",
            hint="name its root, such as http://prometheus:9090, to which /api/v1/query is added",
        ) from error
    return Seen(dcgm.looks(answer, shown(url)))


def simulated(run: Mapping[str, Any], now: float) -> Look:
    """The engines of a running platform as GPUs, one each: busy while a request runs, and memory the part of the cache
    that is in use. Engines that do not answer are left out."""
    processes = [each for each in run.get("processes") or [] if each.get("role") == "engine" and each.get("url")]
    found = [gpu for index, each in enumerate(processes) if (gpu := _engine(index, each)) is not None]
    return Look(now, found, frozenset(gpu.node for gpu in found))


def _engine(index: int, process: Mapping[str, Any]) -> Gpu | None:
    from stoker.telemetry.metrics import read

    running, cache = "vllm:num_requests_running", "vllm:kv_cache_usage_perc"
    try:
        said = read(fetch(f"{process['url']}/metrics"), running, cache)
    except (StokerError, ValueError):
        return None
    return Gpu(
        node="this machine",
        index=str(index),
        name="simulated",
        holders=(Holder(pod=str(process.get("name", "")), model=str(process.get("model") or "")),),
        utilization=100.0 if said.get(running, 0) > 0 else 0.0,
        cache_part=said.get(cache),
        is_simulated=True,
    )


# --- files and HTTP ---------------------------------------------------------------------------------------------------


def shown(place: str) -> str:
    """A place as errors name it: on one line, and without its password."""
    if "@" in place and "://" in place:
        scheme, rest = place.split("://", 1)
        place = f"{scheme}://{rest.rpartition('@')[2]}"
    return printable(place[:300])


def _file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read: {error.strerror}",
            param="from",
            hint="--from takes a file, or a URL that begins with http:// or https://",
        ) from error
    return _text(data, str(path))


def _text(data: bytes, name: str) -> str:
    if len(data) > MOST_BYTES:
        raise TooLarge(f"{name} has more than {MOST_BYTES // 1024 // 1024} MiB", hint="is it an exporter of GPUs?")
    return data.decode("utf-8", "replace")


def _api(url: str, path: str, params: Mapping[str, str]) -> str:
    root = url.rstrip("/").removesuffix("/api/v1")
    return f"{root}/api/v1/{path}?{urlencode(params)}"


def fetch(url: str, *, name: str | None = None) -> str:
    """The body of a GET, at most MOST_BYTES of it and within WITHIN_S. Raises InvalidInput, TooLarge, TimedOut,
    Unavailable."""
    said = name or shown(url)
    parts = _split(url, said)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=WITHIN_S, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=WITHIN_S)
    headers = {"Accept": "text/plain, application/json"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", target, headers=headers)
        with closing(connection.getresponse()) as answer:
            data, status = _body(answer, said), answer.status
    except TimeoutError as error:
        raise TimedOut(f"{said} did not answer within {WITHIN_S:g} seconds", hint=_REACH) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unavailable(f"{said} cannot be reached: {why}", hint=_REACH) from error
    finally:
        connection.close()
    text = _text(data, said)
    # Prometheus says in the body of a 400 what is wrong; everything else is of no use.
    if status >= 300 and not (status in (400, 422, 503) and text.startswith("{")):
        raise Unavailable(f"{said} answers with status {status}", hint=_PATH)
    return text


_REACH = "is it running, and can it be reached from here? In a cluster: kubectl port-forward"
_URL = "it has to begin with http://HOST or https://HOST"
_PATH = "an exporter serves /metrics; of a Prometheus name the root, such as http://prometheus:9090"


def _body(answer: http.client.HTTPResponse, name: str) -> bytes:
    ends_at = time.monotonic() + WITHIN_S
    parts: list[bytes] = []
    size = 0
    while size <= MOST_BYTES and (part := answer.read1(65536)):
        parts.append(part)
        size += len(part)
        if time.monotonic() > ends_at:
            raise TimedOut(f"{name} did not send all within {WITHIN_S:g} seconds", hint=_REACH)
    return b"".join(parts)


def _split(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is read when it is asked for
    except ValueError as error:
        raise InvalidInput(f"{name} is not a URL: {error}", hint=_URL) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"{name} is not a URL that can be read", hint=_URL)
    return parts
