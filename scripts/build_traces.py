"""Writes the traces that ship with the package, from those collected in a shared folder.

    scripts/build_traces.py SHARED [--out src/stoker/simulate/traces/data]

SHARED holds `data/traces`, as its SOURCES.md describes it. Taken is only what its authors' licence lets us pass on:

- Azure's two hours, whole, as Stoker's own CSV.
- Mooncake's two, whole, as Stoker's own CSV: the ids of blocks, nine tenths of the bytes, become `cached_tokens`, which
  is all that is made of them.
- The agents' calls, whole, as they are.
- Of ServeGen's fourteen days of rates one day for each model: that whose count of requests is the median (the upper one
  of two), every client and window of it. A scale of 1 is such a share of its requests that a day has at most a million.
"""

import argparse
import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stoker.simulate.traces.formats.mooncake import BLOCK_TOKENS, seen_before

OUT = "src/stoker/simulate/traces/data"
DAY_S = 86400
WINDOW_S = 600
MOST = 1_000_000
AZURE = ("Azure/AzurePublicDataset", "CC-BY-4.0")
MOONCAKE = ("kvcache-ai/Mooncake", "Apache-2.0")
LMCACHE = ("LMCache/lmcache-agent-trace", "Apache-2.0")
SERVEGEN = ("alibaba/ServeGen", "Apache-2.0")
SEEN = "cached tokens: blocks of a prompt's beginning that any earlier prompt had"
OWN = ("at_s", "prompt_tokens", "completion_tokens")
RATES = ("client", "t_s", "rate_rps", "dist", "param1", "param2")


def rows_of(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = "\n".join(",".join(map(str, row)) for row in (header, *rows)) + "\n"
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def seconds(text: str) -> str:
    """Without zeros at the end."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def facts(file: Path, requests: int, hours: float, about: str, source: tuple[str, str]) -> dict[str, Any]:
    return {
        "file": file.name,
        "requests": requests,
        "hours": round(hours, 2),
        "about": about,
        "source": source[0],
        "licence": source[1],
    }


def azure(source: Path, out: Path, short: str, name: str, about: str) -> dict[str, Any]:
    rows = rows_of(source / f"azure_llm_2023_{short}.csv.gz")
    file = out / f"{name}.csv.gz"
    write(file, OWN, ((seconds(row["t_s"]), row["input_tokens"], row["output_tokens"]) for row in rows))
    return facts(file, len(rows), float(rows[-1]["t_s"]) / 3600, about, AZURE)


def mooncake(source: Path, out: Path, short: str, about: str) -> dict[str, Any]:
    with gzip.open(source / f"mooncake_{short}.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    seen = seen_before([row["hash_ids"] for row in rows])
    file = out / f"mooncake-{short}.csv.gz"
    write(
        file,
        (*OWN, "cached_tokens"),
        (
            (
                seconds(f"{row['timestamp'] / 1000:.3f}"),
                row["input_length"],
                row["output_length"],
                min(int(blocks) * BLOCK_TOKENS, row["input_length"]),
            )
            for row, blocks in zip(rows, seen, strict=True)
        ),
    )
    return facts(file, len(rows), rows[-1]["timestamp"] / 3.6e6, about, MOONCAKE)


def agent_calls(source: Path, out: Path) -> dict[str, Any]:
    rows = rows_of(source / "lmcache_agent_calls.csv.gz")
    file = out / "agent-calls.csv.gz"
    write(file, tuple(rows[0]), (tuple(row.values()) for row in rows))
    sessions = {(row["agent"], row["session"]) for row in rows}
    about = f"{len(sessions)} sessions of agents (mini-SWE-agent, Magentic, tau-bench), from characters"
    return facts(file, len(rows), 1.28, about, LMCACHE)  # hours: as seed 0 lays the sessions out


def servegen(source: Path, out: Path, model: str) -> dict[str, Any]:
    rows = rows_of(source / f"servegen_{model}_rates.csv.gz")
    by_day: Counter[int] = Counter()
    for row in rows:
        by_day[int(row["t_s"]) // DAY_S] += round(float(row["rate_rps"]) * WINDOW_S)
    day = sorted(by_day, key=lambda each: (by_day[each], each))[len(by_day) // 2]
    kept = [row for row in rows if int(row["t_s"]) // DAY_S == day]
    for row in kept:
        row["t_s"] = str(int(row["t_s"]) - day * DAY_S)
    file = out / f"servegen-{model}.csv.gz"
    write(file, RATES, (tuple(row[name] for name in RATES) for row in kept))
    share = next(share for share in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002) if by_day[day] * share <= MOST)
    about = f"a day of the {len({row['client'] for row in kept})} clients of {model}: day {day + 1} of {len(by_day)}"
    return {**facts(file, round(by_day[day] * share), 24, about, SERVEGEN), "share": share}


def lengths(source: Path, out: Path) -> None:
    read = json.loads((source / "servegen_lengths.json").read_text())
    fields = ("input_tokens", "output_tokens")
    kept = {model: {name: known[name] for name in fields} for model, known in read["models"].items()}
    (out / "servegen_lengths.json").write_text(json.dumps({"models": kept}, separators=(",", ":")) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, default=Path(OUT))
    given = parser.parse_args()
    source, out = given.shared / "data" / "traces", given.out
    out.mkdir(parents=True, exist_ok=True)
    index = {
        "agent-calls": agent_calls(source, out),
        "azure-code": azure(source, out, "code", "azure-code", "an hour of code completion, November 2023"),
        "azure-conversation": azure(source, out, "conv", "azure-conversation", "an hour of chat, November 2023"),
        "mooncake-conversation": mooncake(source, out, "conversation", f"an hour of Kimi's chat; {SEEN}"),
        "mooncake-synthetic": mooncake(source, out, "synthetic", f"long prompts made of public data; {SEEN}"),
    }
    for model in ("deepseek-r1", "m-large", "m-mid", "m-small"):
        index[f"servegen-{model}"] = servegen(source, out, model)
    lengths(source, out)
    (out / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"{sum(each.stat().st_size for each in out.iterdir()):,} bytes in {out}")


if __name__ == "__main__":
    main()
