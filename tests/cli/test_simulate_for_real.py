"""`stoker simulate` from the command line to its report, with nothing stood in for: manifests that a person wrote
(examples/by-hand) under a short load."""

import gc
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stoker.cli.app import run
from stoker.simulate import traces

ROOT = Path(__file__).parents[2]
BY_HAND = str(ROOT / "examples" / "by-hand")
LOAD = "poisson:rate=2,seconds=300,prompt=800,completion=150,tenants=3"
Told = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """The command is a process of its own, and lets nobody look for garbage."""
    yield
    gc.enable()


_KNOWN: dict[tuple[str, ...], dict[str, Any]] = {}


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs the command, unless it was run with these words before and `anew` is not asked for."""

    def simulated(*words: str, path: str = BY_HAND, load: str = LOAD, anew: bool = False) -> dict[str, Any]:
        line = ("simulate", path, "--trace", load, "--json", *words)
        if anew or line not in _KNOWN:
            assert run(line) == 0
            _KNOWN[line] = {**json.loads(capsys.readouterr().out), "wall_s": 0.0}
        return _KNOWN[line]

    return simulated


# -- the report --


def test_json_has_the_keys_that_scripts_rely_on_and_its_parts_sum(told: Told) -> None:
    figures = told()
    requests, cost = figures["requests"], figures["cost_usd"]

    assert requests["arrived"] == len(traces.load(LOAD))
    assert requests["served"] + requests["rejected"] + requests["in_flight"] == requests["arrived"]
    for key in ("arrived", "served", "rejected", "in_flight"):
        assert sum(of[key] for of in requests["by_model"].values()) == requests[key]
    for key in ("ttft_s", "tpot_s", "e2e_s"):
        assert 0 < figures[key]["p50"] <= figures[key]["p95"] <= figures[key]["p99"] <= figures[key]["max"]
    assert figures["nodes"]["peak"] >= 3
    assert sum(of["seconds"] for of in figures["nodes"]["by_type"].values()) == figures["nodes"]["seconds"]
    assert set(figures["replicas"]) == {"general", "code", "vision"}
    for split in ("by_node_type", "by_capacity", "by_model", "by_tenant", "by_pool", "by_part"):
        assert round(sum(cost[split].values()), 6) == cost["total"] > 0
    assert {"tenant-1", "tenant-2", "tenant-3"} <= set(cost["by_tenant"])


def test_the_docs_name_every_key(told: Told) -> None:
    page = (ROOT / "docs" / "simulate" / "index.md").read_text().partition("## For scripts")[2].partition("\n## ")[0]
    firsts = "".join(line.partition(" | ")[0] for line in page.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", firsts)) == set(told("--explain", "0:01", "--compare", BY_HAND, "--seeds", "2"))


def test_the_same_seed_gives_the_same_report_and_another_another(told: Told) -> None:
    first = told()
    assert told(anew=True) == first
    other = told("--seed", "5")
    assert other["seed"] == 5
    assert other["requests"]["arrived"] != first["requests"]["arrived"]


def test_the_page_stands_alone(told: Told, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    told("--html", str(file))

    page = file.read_text()
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert re.findall(r"(?:src|href)=[\"'](?!#)", page) == []
    assert "url(" not in page
    assert "@import" not in page


def test_the_table_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", BY_HAND, "--trace", LOAD]) == 0

    said = capsys.readouterr()
    assert said.err == ""
    assert re.match(r"\d+ requests of poisson:.* 0 rejected, 0 in flight; \$\d", said.out)
    assert "nodes by Karpenter" in said.out


def test_what_is_explained_is_a_moment_a_pod_and_a_node(told: Told) -> None:
    moment, pod, node = told("--explain", "-0:50", "--explain", "pod", "llm-code-1", "--explain", "2m")["explained"][:3]
    assert moment.startswith("-0:50:00  (2026-01-04 23:10:00 UTC)")
    assert pod.startswith("pod llm-code-1 of Deployment agentic-ai/llm-code, serves code, on llm-code-")
    assert node.startswith("0:02:00  (2026-01-05 00:02:00 UTC)")
    name = re.findall(r", on (\S+) \(", pod)[0]
    assert told("--explain", "node", name)["explained"][0].startswith(f"node {name}: g")


@pytest.mark.parametrize(
    ("what", "error", "hint"),
    [
        (("pod", "llm-cod-1"), "there was no pod 'llm-cod-1' in this run", "llm-code-1"),
        (("node", "x"), "there was no node 'x' in this run", "llm-general-"),
        (("9:00",), "9:00:00 is outside of the run", "it lasted from -1:00:00 to 0:0"),
    ],
)
def test_names_and_moments_that_there_were_not_are_answered_with_those_that_there_were(
    what: tuple[str, ...], error: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", BY_HAND, "--trace", LOAD, "--explain", *what]) == 2

    said = capsys.readouterr()
    assert error in said.err
    assert hint in said.err.partition("\n\nhint: ")[2]
    assert said.out == ""


# -- what may be said of a run --


def test_requests_go_where_they_are_sent(told: Told) -> None:
    def arrived(*words: str) -> list[int]:
        by_model = told(*words)["requests"]["by_model"]
        return [by_model[name]["arrived"] for name in ("code", "general", "vision")]

    every = len(traces.load(LOAD))
    assert arrived() == [0, every, 0]
    assert arrived("--to", "vision") == arrived("--default-model", "vision") == [0, 0, every]
    code, general, vision = arrived("--to", "general=3,code=1")
    assert (code + general, vision) == (every, 0)
    assert 2.0 < general / code < 4.5


def test_other_weights_make_another_speed(told: Told) -> None:
    small = told("--weights", "general=Qwen/Qwen2.5-0.5B-Instruct")["tpot_s"]["p50"]
    assert told()["tpot_s"]["p50"] > 3 * small > 0


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ("nobody=Qwen/Qwen3-8B", "no workload serves the model nobody\n\nhint: the models here: code, general, vision"),
        ("code=some/thing", "nothing is known of the weights 'some/thing' of code\n\nhint: a name as on a hub"),
    ],
)
def test_weights_that_are_not_known_are_refused(weights: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", BY_HAND, "--trace", LOAD, "--weights", weights]) == 2
    assert error in capsys.readouterr().err


def test_manifests_that_serve_none_of_the_models_asked_for_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nodes.yaml", "vision.yaml"):
        (tmp_path / name).write_text((Path(BY_HAND) / name).read_text())
    assert run(["simulate", BY_HAND, "--trace", LOAD, "--to", "code", "--compare", str(tmp_path)]) == 2
    assert f"--compare {tmp_path}: no workload serves the model code" in capsys.readouterr().err


def test_pools_alone_serve_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", f"{BY_HAND}/nodes.yaml", "--trace", LOAD]) == 2
    assert "There are: 1 EC2NodeClass, 3 NodePool\n\nhint: name the folder" in capsys.readouterr().err


def test_scale_speed_and_hours_change_the_load(told: Told) -> None:
    every = len(traces.load(LOAD))
    scaled = told("--scale", "2")["requests"]["arrived"]
    assert scaled == len(traces.load(LOAD, scale=2.0))
    assert scaled > 1.7 * every
    fast = told("--speed", "2")
    assert fast["requests"]["arrived"] == every
    assert fast["trace"]["duration_s"] < 150
    cut = told("--hours", "0.025")
    assert cut["ended_at_s"] == 90.0
    assert cut["requests"]["arrived"] == len(traces.load(LOAD, limit_s=90.0))
    assert cut["requests"]["in_flight"] > 0


def test_a_cold_cluster_makes_its_first_requests_wait_or_go(told: Told) -> None:
    cold = told("--cold")
    assert cold["nodes"]["launched"] >= told()["nodes"]["launched"] + 3
    assert cold["ttft_s"]["p50"] > 60 > told()["ttft_s"]["p50"]
    assert cold["requests"]["rejected"] == 0
    short = told("--cold", "--timeout", "5")["requests"]
    assert short["rejected_by"]["timed_out"] == short["rejected"] > 300


def test_promises_are_held_against_what_came(told: Told) -> None:
    assert told()["requests"]["late"] is None
    assert told("--slo-ttft", "1000", "--slo-e2e", "1000")["requests"]["late"] == 0
    figures = told("--slo-e2e", "0.01")
    assert figures["requests"]["late"] == figures["requests"]["served"]


def test_node_groups_and_the_cluster_autoscaler(told: Told) -> None:
    groups = ("--node-group", "g6.8xlarge,min=1,max=3,spot,pool=llm-code", "--to", "code")
    figures = told(*groups)
    assert figures["kind"] == "groups"
    assert set(figures["nodes"]["by_type"]) == {"g6.8xlarge"}
    assert figures["requests"]["served"] == figures["requests"]["arrived"]

    compared = told("--compare", "cluster-autoscaler")["compared"]
    assert (compared["name"], compared["report"]["kind"]) == ("cluster-autoscaler", "groups")
    assert compared["report"]["requests"]["arrived"] == figures["requests"]["arrived"]
    assert [row["name"] for row in compared["rows"]][:2] == ["requests arrived", "served"]


def test_spot_nodes_are_taken_by_a_rate_and_by_a_recorded_market(told: Told, tmp_path: Path) -> None:
    launched = [told("--interruptions", rate)["nodes"]["launched"] for rate in ("0", "30")]
    assert launched[0] < launched[1]

    market = tmp_path / "market.csv"
    market.write_text("at_s,available\n0,3\n60,0\n")
    figures = told("--spot-trace", str(market))
    assert set(figures["cost_usd"]["by_capacity"]) == {"on-demand", "spot"}  # in place of the three that were taken
    assert figures["nodes"]["launched"] > told()["nodes"]["launched"]


def test_what_prices_a_file_has_is_what_is_paid(told: Told, tmp_path: Path) -> None:
    rows = [
        f"{kind},us-west-2{zone},spot,1000"
        for kind in ("g5.2xlarge", "g5.4xlarge", "g5.8xlarge", "g6.2xlarge", "g6.4xlarge", "g6.8xlarge")
        for zone in "abc"
    ]
    prices = tmp_path / "prices.csv"
    prices.write_text("type,zone,capacity,usd_per_hour\n" + "\n".join(rows) + "\n")
    assert set(told()["cost_usd"]["by_capacity"]) == {"spot"}
    hours = {name: of["seconds"] / 3600 for name, of in told("--prices", str(prices))["nodes"]["by_type"].items()}
    cost = told("--prices", str(prices))["cost_usd"]
    assert cost["by_part"]["instances"] == pytest.approx(1000 * sum(hours.values()), rel=1e-6)


def test_the_rest_of_the_options_are_heard(told: Told) -> None:
    figures = told("--start", "2026-03-04T05:06:07+02:00", "--prior", "boot_s=7", "--spot-to-spot", "--drift", "0:01")
    assert figures["began_at"] == "2026-03-04T03:06:07Z"
    assert figures["assumptions"]["boot_s"] == 7.0
    assert figures["nodes"]["launched"] > told()["nodes"]["launched"]  # in place of those that drifted
    without = told("--ice", "1", "--cold")
    assert without["nodes"]["launched"] == 0
    assert without["requests"]["served"] == 0
    assert (
        "the pools name zones of us-west-2, and eu-west-1 is simulated: they start no node"
        in told("--region", "eu-west-1")["notes"]
    )


# -- in and out --


def test_manifests_come_from_stdin(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(Path(BY_HAND).glob("*.yaml"))
    text = "\n---\n".join(each.read_text() for each in files)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert told(path="-") == told()


def test_a_trace_of_ones_own_and_what_is_no_trace(
    told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.csv"
    own.write_text("at_s,prompt_tokens,completion_tokens,model,tenant\n0,100,10,vision,acme\n5,100,10,general,globex\n")
    figures = told(load=str(own))
    assert [figures["requests"]["by_model"][name]["served"] for name in ("code", "general", "vision")] == [0, 1, 1]

    long = tmp_path / "long.csv"
    long.write_text("at_s,prompt_tokens,completion_tokens\n0,100,10\n99999999,100,10\n")
    for trace, error in (
        (str(long), "long.csv lasts 1157 days; at most 366 are simulated\n\nhint: "),
        ("azur-code", "there is no file and no shipped trace 'azur-code': azure-code?\n\nhint: shipped: "),
        ("", "there is no file and no shipped trace ''"),
        (f"{BY_HAND}/nodes.yaml", "nodes.yaml is in no known format"),
        (BY_HAND, "is a directory without ledger.sqlite"),
    ):
        assert run(["simulate", BY_HAND, "--trace", trace]) == 2
        assert error in capsys.readouterr().err


def test_what_a_person_wrote_lints_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", BY_HAND, "--level", "info", "--fail-on", "info"]) == 0
    assert capsys.readouterr().out.startswith("nothing found in 17 objects of 5 files")


def test_without_nodes_nobody_is_said_to_make_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "server.yaml").write_text(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: chat}\nspec:\n  template:\n    spec:\n"
        "      containers:\n      - {name: engine, image: vllm/vllm-openai, args: [--model, Qwen/Qwen3-8B],\n"
        "         resources: {limits: {nvidia.com/gpu: 1}}}\n"
    )
    line = ["simulate", str(tmp_path), "--trace", "poisson:rate=1,seconds=10"]
    assert run(line) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("$0.00, no nodes: no NodePool and no node group")
    assert run([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "none"
