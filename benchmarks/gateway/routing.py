"""What `model: auto` makes of prompts whose right answer is known, and how long it takes.

    .venv/bin/python benchmarks/gateway/routing.py [--tuning] [--wrong] [--json]

The prompts (prompts.jsonl, written for this by hand before the rules were) are in two halves. The rules may be tuned on
the half `tuning` alone; the figures are those of the half `held-out`, and `--wrong` shows those of `tuning` only.
A prompt is right when `auto` sends it to the model of its label, with a model for each label.

Times: `features_of` and `choose` together, one call, over the prompts of the set, and over bodies of 220 KB of several
kinds, the hostile ones among them. CPU is the time of the thread: what it costs. Wall is what a clock says, which on a
machine where others compute holds their turns, too.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from stoker.policy.features import features_of
from stoker.policy.routing import RoutingTable, choose, table_of
from stoker.spec import loads

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

PROMPTS = Path(__file__).with_name("prompts.jsonl")
LABELS = ("code", "general", "hard", "tools", "image")
TARGET_US = 300.0
SIZE = 220 * 1024


def a_table() -> RoutingTable:
    """A model for each label."""
    return table_of(
        loads(
            "llm: {models: {general: {}, code: {}, image: {task: vision}, hard: {}, tools: {}}}\n"
            "gateway: {routes: {}, auto: {tools: tools, hard: hard}}"
        )
    )


def prompts(split: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["split"] == split]


def answers(split: str) -> Counter[tuple[str, str]]:
    """How many prompts of each label went where: (label, model) to a count."""
    table = a_table()
    return Counter(
        (row["label"], choose(None, "auto", features_of(row["body"]), table).model) for row in prompts(split)
    )


def user(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def large_bodies() -> dict[str, dict[str, Any]]:
    """220 KB each: what people send, and what would make a careless pattern slow."""

    def filled(unit: str) -> dict[str, Any]:
        return user((unit * (SIZE // len(unit.encode()) + 1))[:SIZE])

    tiny = [{"role": "user", "content": "a"}] * (SIZE // 32)
    return {
        "prose": filled("The harbour was quiet and the boats lay still. "),
        "prose in lines": filled("The harbour was quiet and the boats lay still.\n"),
        "code": filled("    total += price * count  # of all\n"),
        "numbers": filled("12 34.5 "),
        "one word": filled("a"),
        "many messages": {"messages": tiny},
        "many parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * (SIZE // 32)}]},
        "words": filled("a "),
        "line ends": filled("\n"),
        "braces": filled("{;\n"),
        "from": filled("from x \n"),
        "select": filled("select a b c d e f g h\n"),
        "if": filled("if (x) y\n"),
        "public": filled("public a b c d e\n"),
        "powers": filled("a + b "),
        "hyphens": filled("a-"),
        "chained calls": filled(").a("),
        "equations": filled("a + b = c "),
        "stack frames": filled("\n at :1 python"),
        "calls": filled("python aaa("),
        "show that": filled(" show, that , state the "),
    }


def times_us(bodies: list[dict[str, Any]], rounds: int) -> dict[str, list[float]]:
    table = a_table()
    wall, cpu = [], []
    for _ in range(rounds):
        for body in bodies:
            wall_began, cpu_began = time.perf_counter_ns(), time.thread_time_ns()
            choose(None, "auto", features_of(body), table)
            cpu.append((time.thread_time_ns() - cpu_began) / 1000)
            wall.append((time.perf_counter_ns() - wall_began) / 1000)
    return {"cpu": cpu, "wall": wall}


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuning", action="store_true", help="the half that rules may be tuned on")
    parser.add_argument("--wrong", action="store_true", help="list what is wrong in the half `tuning`")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.wrong:
        for row in prompts("tuning"):
            route = choose(None, "auto", features_of(row["body"]), a_table())
            if route.model != row["label"]:
                print(f"{row['id']} -> {route.model}: {row['body']['messages'][-1]['content']!r}")
        return
    split = "tuning" if given.tuning else "held-out"
    where = answers(split)
    accuracy = {}
    for label in LABELS:
        total = sum(count for (one, _), count in where.items() if one == label)
        accuracy[label] = {"right": where[label, label], "of": total}
    times = {"prompts of the set": times_us([row["body"] for row in prompts(split)], 50)}
    times |= {name: times_us([body], 500) for name, body in large_bodies().items()}
    shown = {
        name: {
            f"{clock}_{word}": percentile(values, percent)
            for clock, values in each.items()
            for word, percent in (("p50", 50), ("p99", 99))
        }
        for name, each in times.items()
    }
    if given.json:
        print(json.dumps({"split": split, "accuracy": accuracy, "times_us": shown, "machine": describe()}))
        return
    print(describe())
    print(f"\naccuracy on the half {split}; rows: the label, columns: where it was sent")
    print(f"{'':10}" + "".join(f"{label:>9}" for label in LABELS) + "    right")
    for label in LABELS:
        right, total = accuracy[label]["right"], accuracy[label]["of"]
        cells = "".join(f"{where[label, to]:9}" for to in LABELS)
        print(f"{label:10}{cells}    {right}/{total} = {right / total:.0%}")
    right = sum(one["right"] for one in accuracy.values())
    total = sum(one["of"] for one in accuracy.values())
    print(f"{'all':10}{'':45}    {right}/{total} = {right / total:.1%}")
    print("\nmicroseconds for one request")
    for name, each in shown.items():
        print(f"{name:20}" + "".join(f"   {word.replace('_', ' ')} {value:7.1f}" for word, value in each.items()))
    for clock in ("cpu", "wall"):
        worst = max(each[f"{clock}_p99"] for each in shown.values())
        verdict = "held" if worst <= TARGET_US else "MISSED"
        print(f"worst p99, {clock}: {worst:.1f} us; the target is {TARGET_US:.0f} us: {verdict}")


if __name__ == "__main__":
    main()
