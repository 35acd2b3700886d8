"""The benchmarks of the queue run, in a short form, and what they count is exact. How fast it was is not looked at."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.redis

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "queue"


def run(script: str, *options: str) -> str:
    """What it prints. Fails when it does: each ends with an error when a count is not what it has to be."""
    argv = [sys.executable, str(BENCHMARKS / script), *options]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    return ended.stdout


def test_throughput_reads_each_result_and_leaves_one_usage_record_of_each_task() -> None:
    said = run("throughput.py", "--tasks", "150", "--rounds", "1", "--only", "stoker,stoker worker,bare")
    rows = [line.split("  ")[0] for line in said.splitlines()]
    assert [name for name in ("stoker", "stoker worker", "bare") if name in rows] == ["stoker", "stoker worker", "bare"]


def test_throughput_says_so_when_a_worker_completes_without_usage(tmp_path: Path) -> None:
    """The counts of a contender that leaves a task without its record are found out."""
    copy = tmp_path / "queue"
    for path in (*BENCHMARKS.glob("*.py"), *(BENCHMARKS / "contenders").glob("*.py")):
        target = copy / path.relative_to(BENCHMARKS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    for shared in ("up", "shared"):
        (tmp_path / shared).symlink_to(BENCHMARKS.parent / shared)
    contender = copy / "contenders" / "stoker_queue.py"
    honest = "if not await queue.complete("
    assert honest in contender.read_text()
    twice = 'await queue.append_usage(replace(usage, id=usage.id + ".2"))\n    ' + honest
    imported = "import asyncio\nfrom dataclasses import replace\n"
    contender.write_text(contender.read_text().replace(honest, twice).replace("import asyncio\n", imported, 1))
    argv = [sys.executable, str(copy / "throughput.py"), "--tasks", "20", "--rounds", "1", "--only", "stoker"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 1
    assert "stoker: 21 tasks left 42 usage records, 0 tickets and 0 leases" in ended.stderr


def test_latency_sees_each_task_start_once() -> None:
    said = run("latency.py", "--tasks", "20")
    assert "20 tasks, load" in said
    assert len(re.findall(r"goal \d ms", said)) == 3


def test_memory_counts_what_waits() -> None:
    said = run("memory.py", "--tasks", "3000", "--few", "200", "--rounds", "2")
    assert "3,000 wait, after" in said
    assert "us for each task                 200      3,000   ratio" in said


@pytest.mark.flow
def test_nothing_is_lost_or_doubled_while_processes_and_redis_are_killed() -> None:
    """10,000 tasks, 4 workers and two restarts of Redis: benchmarks/queue/chaos.py without options."""
    options = ["--tasks", "250", "--workers", "2", "--gateways", "2", "--redis-restarts", "1", "--kill-every", "1"]
    said = run("chaos.py", *options, "--most-seconds", "240")
    counts = re.findall(r"^ +(\d+) (?!s:)(.+)$", said, re.MULTILINE)
    assert [(int(count), what) for count, what in counts] == [
        (0, "lost (answered, and not done)"),
        (0, "tasks beyond one for each key"),
        (0, "tasks without a usage record"),
        (0, "usage records in the stream beyond one for each"),
        (0, "usage records of no task"),
        (0, "counters that are not the ledger's sum"),
    ]
    killed = re.search(r"^killed: (\{.*\}), Redis 1 times$", said, re.MULTILINE)
    assert killed is not None, said
    # Of which kinds is chance: this is over in some seconds.
    kills = ast.literal_eval(killed[1])
    assert kills.keys() == {"worker", "engine", "gateway"}
    assert sum(kills.values()) > 0
    assert said.endswith("PASSED\n")
