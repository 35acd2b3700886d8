"""`stoker gpus`: what it prints of recorded exporters, of Prometheus, of NVML, of engines; and what it says instead."""

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cli_parts import Said

from stoker.cli import gpus_sources
from stoker.cli.app import run
from stoker.local.state import StateDirectory
from stoker.telemetry import dcgm
from stoker.testing.nvml import MIB, FakeGpu, FakeNvml

RECORDED = Path(__file__).parents[1] / "telemetry" / "recorded"
HOT_IDLE_FAILING = RECORDED / "dcgm-3.3-hot-idle-failing.prom"

Say = Callable[..., Said]


@pytest.fixture
def stoker(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Say:
    """In an empty folder, on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STOKER_STATE", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", None)

    def says(*arguments: object) -> Said:
        capsys.readouterr()
        code = run(["gpus", *(str(each) for each in arguments)])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return says


Answer = Callable[[str], tuple[int, bytes]]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # it had enough
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


WHAT = """\
critical GpuBroken: ip-10-0-1-23.ec2.internal gpu 3 (NVIDIA A10G)
  seen  XID 48: memory error of two bits, which ECC cannot correct (NVIDIA: reset the GPU)
  rule  the last XID is one of the hardware's: 48, 64, 74, 79, 95, 119, 120, 140
  do    kubectl cordon and drain the node and delete its NodeClaim: a new one comes.

critical GpuMemoryErrors: ip-10-0-1-23.ec2.internal gpu 3 (NVIDIA A10G)
  seen  2 errors that ECC cannot correct
  rule  one error that ECC cannot correct, or one row that could not be replaced
  do    kubectl cordon and drain the node and delete its NodeClaim: a new one comes.

warning GpuHot: ip-10-0-1-23.ec2.internal gpu 1 (NVIDIA A10G)
  seen  91 C
  rule  hotter than 88 C
  do    When others of its type are cooler under the same load, delete its NodeClaim.

warning GpuThrottled: ip-10-0-1-23.ec2.internal gpu 1 (NVIDIA A10G)
  seen  clocks held down by heat, at 91 C
  rule  slowed down by heat
  do    It is slower than what is paid for: see its fans and neighbours, or delete its NodeClaim.

warning GpuIdle: ip-10-0-1-23.ec2.internal gpu 2 (NVIDIA A10G)
  seen  0.0 % at this one look, while vision has it and 20612 MiB are held
  rule  used less than 3 % of the time
  cost  $1.42 an hour: its part of g5.12xlarge, on demand in us-east-1
  do    Write replicas.min 0 for a model that is not always used, or see what keeps Karpenter from removing the node.
"""


HEADERS = ["node", "gpu", "name", "util", "memory", "temp", "power", "slowed by", "ecc", "xid", "pod", "model"]
HEADERS.append("warnings")


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def test_a_hot_an_idle_and_a_failing_gpu_are_named_with_the_rule_and_what_was_seen(stoker: Say) -> None:
    said = stoker("--from", HOT_IDLE_FAILING, "--instance-type", "g5.12xlarge")
    assert (said.code, said.err) == (0, "")
    table, _, warnings = said.out.partition("\n\n")
    assert warnings == WHAT
    assert [cells(line) for line in table.splitlines()] == [
        HEADERS,
        [
            "ip-10-0-1-23.ec2.internal",
            "3",
            "NVIDIA A10G",
            "41 %",
            "20890/22800 MiB",
            "58 C",
            "143 W",
            "nothing",
            "31/2/1",
            "48 memory error of two bits, which ECC cannot correct",
            "agentic-ai/model-general-6d5f7c9b48-q9w4r:vllm",
            "general",
            "GpuBroken,GpuMemoryErrors",
        ],
        [
            "ip-10-0-1-23.ec2.internal",
            "1",
            "NVIDIA A10G",
            "94 %",
            "20742/22800 MiB",
            "91 C",
            "187 W",
            "slowdown, heat",
            "0/0/0",
            "0",
            "agentic-ai/model-code-6d5f7c9b48-x7k2p:vllm",
            "code",
            "GpuHot,GpuThrottled",
        ],
        [
            "ip-10-0-1-23.ec2.internal",
            "2",
            "NVIDIA A10G",
            "0 %",
            "20612/22800 MiB",
            "31 C",
            "58 W",
            "nothing",
            "0/0/0",
            "0",
            "agentic-ai/model-vision-7b9c6d5f4c-x7k2p:vllm",
            "vision",
            "GpuIdle",
        ],
        [
            "ip-10-0-1-23.ec2.internal",
            "0",
            "NVIDIA A10G",
            "87 %",
            "20890/22800 MiB",
            "64 C",
            "231 W",
            "power cap",
            "0/0/0",
            "0",
            "agentic-ai/model-general-6d5f7c9b48-x7k2p:vllm",
            "general",
            "-",
        ],
    ]


def test_names_of_others_move_no_cursor(stoker: Say, tmp_path: Path) -> None:
    labels = 'gpu="0",Hostname="n\\n1",pod="\x1b[2Jp",model="m\x1b"'
    (tmp_path / "page.prom").write_text(f"DCGM_FI_DEV_GPU_UTIL{{{labels}}} 1\n")
    said = stoker("--from", "page.prom")
    assert "\x1b" not in said.out
    assert cells(said.out.splitlines()[1])[:4] == [r"n\n1", "0", "-", "1 %"]
    assert r"while m\x1b has it" in said.out


def test_several_nodes_by_url_and_file_and_one_that_does_not_answer_is_left_out(stoker: Say) -> None:
    with serving(lambda path: (200, (RECORDED / "dcgm-4.8-mig.prom").read_bytes())) as url:
        said = stoker("--from", f"{url}/metrics", "--from", HOT_IDLE_FAILING, "--from", "nowhere.prom", "--json")
    assert said.err == "left out: nowhere.prom cannot be read: No such file or directory\n"
    assert [(gpu["node"], gpu["index"], gpu["mig_id"]) for gpu in said.json["gpus"]][-2:] == [
        ("ip-10-0-1-23.ec2.internal", "0", ""),
        ("ip-10-0-9-4.ec2.internal", "0", "1"),
    ]
    [slice_] = [each for each in said.json["warnings"] if each["rule"] == "GpuSliceIdle"]
    assert (slice_["node"], slice_["gpu"], slice_["mig_id"]) == ("ip-10-0-9-4.ec2.internal", "0", "2")


class Hand:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_looks_one_after_the_other_see_a_gpu_vanish(stoker: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.cli.gpus.time", Hand())
    pages = iter(["before", "lost", "vanished"])
    with serving(lambda path: (200, (RECORDED / f"dcgm-4.8-{next(pages)}.prom").read_bytes())) as url:
        said = stoker("--from", f"{url}/metrics", "--for", "10s", "--every", "5s", "--json")
    assert said.json["looks"] == 3
    assert [(each["rule"], each["gpu"]) for each in said.json["warnings"]] == [
        ("GpuMissing", "0"),
        ("GpuMemoryErrors", "1"),
        ("GpuMemoryFull", "1"),
        ("GpuPowerBrake", "1"),
        ("GpuIdle", "2"),
    ]
    gone = said.json["gpus"][0]
    assert (gone["index"], gone["is_missing"], gone["xid_meaning"]) == ("0", True, "the GPU has fallen off the bus")


def test_watching_looks_again_until_it_is_ended(stoker: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it saw before counts: the third look tells of the GPU that is gone."""
    hand = Hand()
    monkeypatch.setattr("stoker.cli.gpus.time", hand)
    pages = iter(["before", "lost", "vanished"])

    def answer(path: str) -> tuple[int, bytes]:
        if (name := next(pages, None)) is None:
            return 500, b""
        return 200, (RECORDED / f"dcgm-4.8-{name}.prom").read_bytes()

    with serving(answer) as url:
        said = stoker("--from", url, "--watch", "--json")
    rules = [[each["rule"] for each in json.loads(line)["warnings"]] for line in said.out.splitlines()]
    assert [each[0] for each in rules] == ["GpuMemoryErrors", "GpuBroken", "GpuMissing"]
    assert (said.code, hand.now) == (1, 1015.0)


def prometheus(series: list[tuple[str, Mapping[str, str], Any]], asked: list[dict[str, list[str]]]) -> Answer:
    def answer(path: str) -> tuple[int, bytes]:
        parts = urlsplit(path)
        asked.append({"path": [parts.path], **parse_qs(parts.query)})
        kind = "values" if parts.path.endswith("range") else "value"
        result = [{"metric": {"__name__": name, **labels}, kind: value} for name, labels, value in series]
        return 200, json.dumps({"status": "success", "data": {"result": result}}).encode()

    return answer


def test_prometheus_is_asked_once_for_the_whole_window(stoker: Say) -> None:
    """1,000 MiB free, 100 less each minute: full in ten minutes, on an instance whose type Prometheus knows."""
    gpu = {"gpu": "0", "node": "n1", "model": "code", "instance_type": "g5.xlarge", "modelName": "NVIDIA A10G"}
    minutes = range(11)
    series = [
        ("DCGM_FI_DEV_FB_FREE", gpu, [[60 * m, str(2000 - 100 * m)] for m in minutes]),
        ("DCGM_FI_DEV_FB_USED", gpu, [[60 * m, str(21000 + 100 * m)] for m in minutes]),
        ("DCGM_FI_DEV_GPU_UTIL", gpu, [[60 * m, "1"] for m in minutes]),
    ]
    asked: list[dict[str, list[str]]] = []
    with serving(prometheus(series, asked)) as url:
        said = stoker("--prometheus", url, "--for", "10m", "--every", "60s", "--json")
    [request] = asked
    assert (request["path"], request["step"], request["query"]) == (["/api/v1/query_range"], ["60"], [dcgm.QUERY])
    assert float(request["end"][0]) - float(request["start"][0]) == 600.0
    assert (said.json["looks"], said.json["seconds"]) == (11, 600.0)
    assert [(each["rule"], each["seen"], each["usd_per_hour"]) for each in said.json["warnings"]] == [
        ("GpuMemoryAhead", "1000 MiB free, 100 MiB less each minute, over 10 min (11 looks): full in 10 min", None),
        ("GpuIdle", "1.0 % on average over 10 min (11 looks), while code has it and 22000 MiB are held", 1.006),
    ]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"<html>", "does not answer as Prometheus does: no JSON"),
        (200, b"[]", "does not answer as Prometheus does"),
        (400, b'{"status":"error","error":"parse error"}', "says: parse error"),
        (404, b"404 page not found", "answers with status 404"),
        (302, b"", "answers with status 302"),
    ],
)
def test_what_is_no_prometheus_is_an_error(stoker: Say, status: int, body: bytes, says: str) -> None:
    with serving(lambda path: (status, body)) as url:
        said = stoker("--prometheus", url)
    assert said.code != 0
    assert said.err.splitlines()[0] == f"error: {url} {says}"


def test_a_prometheus_that_knows_no_gpu(stoker: Say) -> None:
    with serving(prometheus([], [])) as url:
        said = stoker("--prometheus", url)
    assert said.err.startswith("error: no GPU is known there\n\nhint: ")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("nowhere.prom", "nowhere.prom cannot be read: No such file or directory"),
        (".", ". cannot be read: Is a directory"),
        ("ftp://there/metrics", "ftp://there/metrics is not a URL that can be read"),
        ("http://", "http:// is not a URL that can be read"),
        ("http://user:secret@127.0.0.1:1/metrics", "http://127.0.0.1:1/metrics cannot be reached: Connection refused"),
        ("http://127.0.0.1:99999/", "http://127.0.0.1:99999/ is not a URL: Port out of range 0-65535"),
        ("http://127.0.0.1:1/a b\r\nX: y", None),
    ],
)
def test_a_place_that_cannot_be_read_is_one_line_and_a_hint(stoker: Say, place: str, says: str | None) -> None:
    said = stoker("--from", place)
    assert (said.code != 0, said.out) == (True, "")
    error, _, hint = said.err.partition("\n\n")
    assert "\n" not in error.rstrip()
    assert "secret" not in said.err
    assert "Traceback" not in said.err
    if says is not None:
        assert error.rstrip() == f"error: {says}"
        assert hint.startswith("hint: ")


def test_bodies_are_bounded_in_bytes_and_in_time(stoker: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus_sources, "MOST_BYTES", 1024 * 1024)
    with serving(lambda path: (200, b"x" * (2 * 1024 * 1024))) as url:
        assert stoker("--from", url).err.startswith(f"error: {url} has more than 1 MiB\n")
    monkeypatch.setattr(gpus_sources, "WITHIN_S", 0.05)
    ended = threading.Event()

    def never(path: str) -> tuple[int, bytes]:
        ended.wait(10)
        return 200, b""

    with serving(never) as url:
        said = stoker("--from", url)
        ended.set()
    assert said.err.startswith(f"error: {url} did not answer within 0.05 seconds\n")


def test_of_a_body_without_an_end_no_more_is_read_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus_sources, "MOST_BYTES", 1024 * 1024)

    class Endless:
        read = 0

        def read1(self, most: int) -> bytes:
            self.read += most
            return b"x" * most

    answer = Endless()
    gpus_sources._body(answer, "there")  # type: ignore[arg-type]
    assert answer.read == 1024 * 1024 + 65536


def test_without_a_gpu_it_says_so_and_what_can_be_named(stoker: Say) -> None:
    said = stoker()
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "this machine's GPUs cannot be read: nvidia-ml-py is not installed\n"
        "error: there is no GPU to show: no platform runs here either\n\n"
        "hint: name exporters with --from http://NODE:9400/metrics, or a Prometheus with --prometheus URL\n"
    )


def test_without_a_gpu_the_engines_of_a_running_platform_stand_in_marked_as_such(stoker: Say) -> None:
    page = b'vllm:num_requests_running{model_name="m"} 2\nvllm:kv_cache_usage_perc{model_name="m"} 0.375\n'
    state = StateDirectory(Path(".stoker"))
    state.create()
    with serving(lambda path: (200, page)) as url, state.lock() as lock:
        lock.say(pid=os.getpid(), url="http://127.0.0.1:1")
        engines = [
            {"name": "general-0", "role": "engine", "model": "general", "url": url, "pid": 1},
            {"name": "code-0", "role": "engine", "model": "code", "url": "http://127.0.0.1:1", "pid": 2},
            {"name": "gateway", "role": "gateway", "model": None, "url": url, "pid": 3},
        ]
        state.write_run({"pid": os.getpid(), "url": "http://127.0.0.1:1", "state": "up", "processes": engines})
        said, as_json = stoker(), stoker("--json").json
    assert said.err.splitlines()[1] == "what follows is simulated: each engine of this platform as a GPU of its own"
    _, row, empty, last = said.out.splitlines()
    assert cells(row) == [
        "this machine",
        "0",
        "simulated",
        "100 %",
        "38 % of cache",
        *["-"] * 5,
        "general-0",
        "general",
        "-",
    ]
    assert (empty, last) == ("", "Simulated GPUs are not judged.")
    assert (as_json["source"], [gpu["is_simulated"] for gpu in as_json["gpus"]]) == ("simulated", [True])


def test_this_machines_gpus_come_first_with_whose_they_are(stoker: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = FakeGpu("GPU-1", utilization=70, used=1000 * MIB, free=1000 * MIB, processes=(os.getpid(),))
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(busy))  # type: ignore[arg-type] - it has a module's functions
    state = StateDirectory(Path(".stoker"))
    state.create()
    with state.lock() as lock:
        lock.say(pid=os.getpid(), url="http://127.0.0.1:1")
        process = {"name": "general-0", "role": "engine", "model": "general", "url": None, "pid": os.getpid()}
        state.write_run({"pid": os.getpid(), "url": "http://127.0.0.1:1", "state": "up", "processes": [process]})
        said = stoker("--json").json
    [gpu] = said["gpus"]
    assert (said["source"], gpu["utilization"], gpu["memory_used_mib"]) == ("here", 70.0, 1000.0)
    assert gpu["holders"] == [{"pod": "general-0", "namespace": "", "container": "", "model": "general"}]


def test_without_a_gpu_the_prometheus_of_platform_yaml_is_asked(stoker: Say, tmp_path: Path) -> None:
    series = [("DCGM_FI_DEV_GPU_UTIL", {"gpu": "0", "node": "n1"}, [100, "55"])]
    with serving(prometheus(series, [])) as url:
        spec = f"global: {{observability: {{prometheusUrl: '{url}'}}}}\n"
        (tmp_path / "platform.yaml").write_text(spec)
        said = stoker("--json")
    assert said.err == "this machine's GPUs cannot be read: nvidia-ml-py is not installed\n"
    assert [(gpu["node"], gpu["utilization"]) for gpu in said.json["gpus"]] == [("n1", 55.0)]
    said = stoker()  # it is gone now
    assert said.err.splitlines()[1].startswith(f"{url} cannot be reached: ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--for", "5"], "--for is '5'; it must be a time such as 5s, 15m or 1h, at most 24h"),
        (["--for", "25h"], "--for is '25h'; it must be a time such as 5s, 15m or 1h, at most 24h"),
        (["--every", "0s"], "--every is '0s'; it must be a time such as 5s, 15m or 1h, at most 24h"),
        (["--for", "24h", "--every", "1s"], "--for 24h --every 1s is more than 720 looks"),
        (
            ["--instance-type", "m5.large"],
            "--instance-type is 'm5.large'; it must be an EC2 type with GPUs, such as g5",
        ),
        (["--from", "x", "--prometheus", "http://y"], "--from and --prometheus are two sources; name one of them"),
    ],
)
def test_options_that_mean_nothing_are_refused(stoker: Say, options: list[str], says: str) -> None:
    said = stoker(*options)
    assert said.code == 2
    assert said.err.startswith(f"error: {says}")


def test_there_is_nothing_to_export_without_a_gpu(stoker: Say) -> None:
    said = stoker("export", "--port", "0")
    assert (said.code, said.err.splitlines()[0]) == (
        2,
        "error: this machine's GPUs cannot be read: nvidia-ml-py is not installed",
    )
