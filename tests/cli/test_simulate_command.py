"""`stoker simulate`: what is asked of the run, and how its report is said. The run itself is a stand-in."""

import errno
import gc
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import pytest
from results import a_result, renamed

from stoker.base.errors import InvalidInput
from stoker.cli import simulated
from stoker.cli.app import run
from stoker.cli.simulate import joined, numbers, shares, simulate
from stoker.cli.simulate_checks import named_weights
from stoker.policy.cluster import PodShape
from stoker.policy.placement import NodePoolView, PodView
from stoker.policy.requirements import requirement
from stoker.policy.taints import Taint
from stoker.simulate import chance, node_groups
from stoker.simulate.scenario import NO_NODES, Pool, Scenario, Serving, Workload

GPU_POOL = Pool(
    NodePoolView(
        "gpu",
        requirements={
            "karpenter.k8s.aws/instance-family": requirement("karpenter.k8s.aws/instance-family", "In", ["g6"]),
            "karpenter.sh/capacity-type": requirement("karpenter.sh/capacity-type", "In", ["spot", "on-demand"]),
        },
        labels={"team": "ai"},
        limits={"cpu": 100_000},
        weight=10,
    )
)
MODEL = Workload(
    "Deployment ai/model", "Deployment", PodShape(PodView(requests={"nvidia.com/gpu": 1, "cpu": 6000, "pods": 1})), 1
)
SCENARIO = Scenario((MODEL,), pools=(GPU_POOL,))


@dataclass
class StandIn:
    """What the command asked of the parts that it calls, and what they answer."""

    result: Any = field(default_factory=a_result)
    by_seed: dict[int, Any] = field(default_factory=dict)
    of_groups: tuple[str, ...] = ()
    runs: list[tuple[Any, Any, dict[str, Any]]] = field(default_factory=list)
    loads: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    reads: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def simulate(self, scenario: Any, trace: Any, options: Any, *, progress: Callable[[float], None] | None) -> Any:
        self.runs.append((scenario, trace, vars(options)))
        for each in (0.0, 0.5, 0.501, 1.0) if progress else ():
            progress(each)  # type: ignore[misc]
        if options.seed in self.by_seed:
            return replace(self.by_seed[options.seed], **({"kind": "groups"} if scenario.groups else {}))
        return replace(self.result, kind="groups", notes=self.of_groups) if scenario.groups else self.result

    def load(self, what: str, **given: Any) -> str:
        self.loads.append((what, given))
        return what

    def read_scenario(self, manifests: Any, **given: Any) -> Scenario:
        self.reads.append((len(manifests), given))
        return SCENARIO


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    made = StandIn()

    def module(name: str, **members: Any) -> None:
        found = ModuleType(f"stoker.simulate.{name}")
        vars(found).update(members)
        monkeypatch.setitem(sys.modules, found.__name__, found)

    module("run", simulate=made.simulate)
    module("options", Options=SimpleNamespace)
    module("spot_market", read_market=lambda file: ((0.0, file),))
    module("reading", read_scenario=made.read_scenario)
    module("traces", load=made.load, merge=lambda found: "+".join(found))
    yield made
    gc.enable()


@pytest.fixture
def manifests(tmp_path: Path) -> str:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    return str(tmp_path)


def test_the_report_is_a_table_that_a_person_reads(
    stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", manifests, "--trace", "azure-code", "--slo-ttft", "30"]) == 0

    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[:7] == [
        "3,000 requests of made-up over 1 h 00 min: 2,959 served, 38 rejected, 3 in flight; $5.02, nodes by Karpenter",
        "",
        "model    arrived  served  first token p50 p95 p99  per token p50 p95 p99  whole answer p50 p95 p99",
        "general    1,868   1,861      639ms  27.8s  55.7s     18ms   37ms   38ms       4.14s  34.1s   1:03",
        "code         691     658      424ms  1.39s   1:08     18ms   38ms   38ms       3.29s  15.1s   1:13",
        "vision       441     440      403ms  981ms  1.28s     18ms   37ms   38ms       3.13s  11.0s  16.7s",
        "all        3,000   2,959      513ms  22.1s  51.4s     18ms   37ms   38ms       3.74s  28.4s   1:01",
    ]
    assert "general   ready       4  ▄▄▄▄▄▄▄▄▄▄▄▄▄▆████████████████████▆▆▆▆▆▆  3.09 on the mean, 3 made" in said.out
    assert "by model     general $1.86  vision $1.46  (idle) $0.80  code $0.70  (start-up) $0.20" in said.out
    assert "- 95 answers were late (3.2 % of those that were served)." in said.out
    assert max(map(len, said.out.splitlines()[:25])) < 120


def test_json_is_the_report(stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", manifests, "--trace", "t", "--json", "--explain", "0:15", "--explain", "pod", "x"]) == 2
    assert "there was no pod 'x' in this run" in capsys.readouterr().err

    assert run(["simulate", manifests, "--trace", "t", "--json", "--explain", "0:15"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["requests"]["arrived"] == 3000
    assert said["explained"][0].startswith("0:15:00  (2026-01-05 08:15:00 UTC)")


def test_what_is_said_goes_to_the_parts(stand_in: StandIn, manifests: str) -> None:
    words = ["--scale", "2", "--speed", "4", "--hours", "3", "--to", "general=3,code=1", "--seed", "5", "--cold"]
    words += ["--start", "2026-02-03T04:05", "--timeout", "90", "--region", "eu-west-1", "--interruptions", "0.1"]
    words += ["--spot-trace", "market:2", "--prices", "p.csv", "--ice", "0.2", "--spot-to-spot", "--drift", "1h"]
    words += ["--prior", "boot_s=60", "--trace", "one", "--trace", "two", "--weights", "general=Qwen/Qwen3-8B"]
    assert run(["simulate", manifests, *words, "--json"]) == 0

    given = {"scale": 2.0, "speed": 4.0, "seed": 5, "limit_s": 3 * 3600 * 4.0}
    assert stand_in.loads == [("one", given), ("two", given)]
    weights = {"general": "Qwen/Qwen3-8B"}
    assert stand_in.reads == [(1, {"region": "eu-west-1", "default_model": "general", "weights": weights})]
    [(scenario, trace, options)] = stand_in.runs
    assert scenario is SCENARIO
    assert trace == "one+two"
    assert options.pop("began_at").isoformat() == "2026-02-03T04:05:00+00:00"
    assert options == {
        "seed": 5,
        "hours": 3.0,
        "cold": True,
        "timeout_s": 90.0,
        "shares": {"general": 0.75, "code": 0.25},
        "interruptions_per_hour": 0.1,
        "available": ((0.0, "market:2"),),
        "prices": "p.csv",
        "no_capacity": 0.2,
        "spot_to_spot": True,
        "drift_at": 3600.0,
        "priors": {"boot_s": 60.0},
    }


def test_what_is_not_said_is_left_to_the_parts(stand_in: StandIn, manifests: str) -> None:
    assert run(["simulate", manifests, "--trace", "t", "--json"]) == 0

    assert stand_in.runs[0][2] == {"seed": 0, "cold": False, "shares": {}, "spot_to_spot": False, "priors": {}}
    assert stand_in.loads[0][1]["limit_s"] is None
    assert stand_in.reads == [(1, {"region": None, "default_model": None, "weights": {}})]


def test_a_pod_a_node_and_a_moment_are_explained_in_place_of_the_table(
    stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--explain", "pod", "model-code-c1", "--explain=node", "node-2", "--explain", "34m"]
    assert run(["simulate", *words, manifests, "--trace", "t"]) == 0

    said = capsys.readouterr().out
    assert said.startswith("pod model-code-c1 of Deployment agentic-ai/model-code")
    assert "\n\nnode node-2: g6.2xlarge spot" in said
    assert "\n\n0:34:00  (2026-01-05 08:34:00 UTC)" in said
    assert "first token" not in said
    assert stand_in.reads[0][0] == 1  # the names did not become paths


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--explain", "pod", "a", "b"], ["--explain=pod a", "b"]),
        (["--explain=node", "a"], ["--explain=node a"]),
        (["--explain", "0:15", "b"], ["--explain=0:15", "b"]),
        (["--explain", "pod"], ["--explain=pod"]),
        (["a", "--explain"], ["a", "--explain"]),
        (["pod", "a"], ["pod", "a"]),
    ],
)
def test_two_words_are_one_where_they_explain(words: list[str], found: list[str]) -> None:
    assert joined(words) == found


def test_the_page_is_a_file(
    stand_in: StandIn, manifests: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.html"
    assert run(["simulate", manifests, "--trace", "t", "--html", str(file)]) == 0

    assert file.read_text().startswith("<!doctype html>")
    assert capsys.readouterr().err == f"the page is in {file}\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.yaml", "report.html"]  # nothing else was left there


def test_a_page_takes_the_place_of_another_and_keeps_its_link_and_its_mode(
    stand_in: StandIn, manifests: str, tmp_path: Path
) -> None:
    file, link = tmp_path / "report.html", tmp_path / "link.html"
    file.write_text("of yesterday")
    file.chmod(0o640)
    link.symlink_to(file)
    assert run(["simulate", manifests, "--trace", "t", "--html", str(link)]) == 0

    assert link.is_symlink()
    assert file.read_text().startswith("<!doctype html>")
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_page_that_cannot_be_written_is_said_before_the_run(
    stand_in: StandIn,
    manifests: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = tmp_path / "no"
    assert run(["simulate", manifests, "--trace", "t", "--html", str(missing / "r.html")]) == 2
    assert f"{missing}/r.html cannot be written: there is no folder {missing}\n\nhint: " in capsys.readouterr().err

    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for who is not root, which tests may be
    assert run(["simulate", manifests, "--trace", "t", "--html", str(tmp_path / "r.html")]) == 2
    assert "r.html cannot be written: Permission denied\n\nhint: " in capsys.readouterr().err
    assert stand_in.runs == []
    assert not (tmp_path / "r.html").exists()


def test_what_fails_in_the_middle_leaves_no_page(
    stand_in: StandIn,
    manifests: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "report.html"
    file.write_text("of yesterday")
    monkeypatch.setattr(Path, "replace", full)
    assert run(["simulate", manifests, "--trace", "t", "--html", str(file)]) == 2

    assert "report.html cannot be written: No space left on device" in capsys.readouterr().err
    assert file.read_text() == "of yesterday"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.yaml", "report.html"]


def test_ctrl_c_writes_nothing(
    stand_in: StandIn,
    manifests: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*args: Any, **given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["stoker.simulate.run"], "simulate", interrupted)
    file = tmp_path / "report.html"
    assert run(["simulate", manifests, "--trace", "t", "--html", str(file), "--json"]) == 130

    said = capsys.readouterr()
    assert (said.out, said.err.strip()) == ("", "")
    assert not file.exists()


def test_names_cannot_move_the_cursor(stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in.result = renamed(a_result(), "\x1b[2J\n")
    assert run(["simulate", manifests, "--trace", "t"]) == 0
    assert run(["simulate", manifests, "--trace", "t", "--explain", "0:15"]) == 0

    assert "\x1b" not in capsys.readouterr().out


def test_names_in_errors_cannot_move_the_cursor(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "no\x1b[2Jwhere", "--trace", "t"]) == 2

    assert capsys.readouterr().err.startswith("error: there is no no\\x1b[2Jwhere\n\nhint: ")


@pytest.mark.parametrize("words", [[], ["--json"], ["--explain", "0:15"]])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
def test_who_cannot_take_the_report_is_named(
    stand_in: StandIn,
    manifests: str,
    words: list[str],
    number: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(sys, "stdout", Full())
    assert run(["simulate", manifests, "--trace", "t", *words]) == 1
    assert capsys.readouterr().err == f"error: stdout cannot be written: {os.strerror(number)}\n"

    monkeypatch.setattr(sys, "stdout", None)
    assert run(["simulate", manifests, "--trace", "t", *words]) == 1
    assert capsys.readouterr().err == "error: stdout cannot be written: it is closed\n"


# -- comparisons and node groups --


def test_two_sets_of_manifests_are_compared(
    stand_in: StandIn, manifests: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n")
    words = ["simulate", f"{manifests}/a.yaml", "--trace", "t", "--compare", str(other)]
    assert run(words) == 0
    assert "requests arrived" in capsys.readouterr().out

    assert run([*words, "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)["compared"]
    assert compared["name"] == str(other)
    assert compared["report"]["cost_usd"]["total"] == 5.0216
    assert {
        "name": "dollars",
        "unit": "usd",
        "first": 5.0216,
        "second": 5.0216,
        "change_percent": 0.0,
    } in compared["rows"]
    assert len(stand_in.loads) == 2  # one trace for both runs of each call


def test_karpenter_is_compared_with_node_groups(stand_in: StandIn, manifests: str) -> None:
    assert run(["simulate", manifests, "--trace", "t", "--json", "--compare", "cluster-autoscaler"]) == 0

    (first, *_), (second, *_) = stand_in.runs
    assert (first.pools, first.groups) == ((GPU_POOL,), ())
    assert second.pools == ()
    [group] = second.groups
    assert (group.type, group.minimum, group.maximum) == ("g6.2xlarge", 0, 1000)
    assert group.view.name == "gpu-g6.2xlarge-spot"
    assert group.view.labels == {"team": "ai"}
    assert group.view.limits == {}
    assert group.view.capacity_types == ("spot",)


def test_what_is_not_like_with_like_is_said_and_notes_of_the_second_are_marked(
    stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = iter(["us-east-1", "eu-west-1"])
    read = sys.modules["stoker.simulate.reading"]
    monkeypatch.setattr(read, "read_scenario", lambda *_, **__: replace(SCENARIO, region=next(regions)))
    assert run(["simulate", manifests, "--trace", "t", "--compare", manifests]) == 0
    said = capsys.readouterr().out.partition("\nCompared\n")[2]
    assert "\n- not like with like: the first is in us-east-1, the second in eu-west-1\n" in said


def test_notes_of_the_second_set_are_shown_marked(
    stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.of_groups = (*stand_in.result.notes, *(f"note\x1b {i}" for i in range(8)))
    assert run(["simulate", manifests, "--trace", "t", "--compare", "cluster-autoscaler"]) == 0

    said = capsys.readouterr().out.partition("\nCompared\n")[2].splitlines()
    assert said[-7:] == [
        *(f"- cluster-autoscaler: note\\x1b {i}" for i in range(6)),
        "- cluster-autoscaler: 2 more notes: --json and --html have all",
    ]


def test_several_seeds_show_how_much_chance_matters(
    stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, factor in ((5, 2), (6, 4), (7, 1)):
        costs = stand_in.result.costs
        stand_in.by_seed[seed] = replace(stand_in.result, costs=replace(costs, total=costs.total * factor))
    words = ["simulate", manifests, "--trace", "t", "--seed", "5", "--seeds", "3"]
    assert run([*words, "--json"]) == 0

    assert [options["seed"] for _, _, options in stand_in.runs] == [5, 6, 7]
    assert [given["seed"] for _, given in stand_in.loads] == [5, 6, 7]
    figures = json.loads(capsys.readouterr().out)
    assert figures["cost_usd"]["total"] == 10.0432  # the report is of the first
    seeds = figures["seeds"]
    assert (seeds["count"], seeds["first_seed"]) == (3, 5)
    assert seeds["usd"] == {"lowest": 5.0216, "median": 10.0432, "highest": 20.086399}
    assert seeds["served_percent"]["median"] == 98.633333
    assert set(seeds) == {"count", "first_seed", *chance.FIGURES}

    assert run(words) == 0
    said = capsys.readouterr().out
    assert "\n3 runs, of the seeds 5 to 7\n" in said
    assert re.search(r"\ndollars +\$5.02 +\$10.04 +\$20.09\n", said)
    assert re.search(r"\nserved, % +98.63 +98.63 +98.63\n", said)
    assert chance.ONE_RUN not in said


def test_differences_of_a_comparison_are_of_the_same_seed(
    stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["simulate", manifests, "--trace", "t", "--seeds", "2", "--compare", "cluster-autoscaler"]
    assert run([*words, "--json"]) == 0

    assert [(bool(scenario.groups), options["seed"]) for scenario, _, options in stand_in.runs] == [
        (False, 0),
        (True, 0),
        (False, 1),
        (True, 1),
    ]
    seeds = json.loads(capsys.readouterr().out)["seeds"]
    assert seeds["compared"]["usd"] == seeds["usd"]
    assert seeds["differences"]["usd"] == {"lowest": 0, "median": 0, "highest": 0}
    assert run(words) == 0
    assert f"cluster-autoscaler less {manifests}, seed by seed" in capsys.readouterr().out


def test_ranges_of_pairs_are_not_differences_of_ranges() -> None:
    def runs(*dollars: float | None) -> list[chance.Figures]:
        return [{**dict.fromkeys(chance.FIGURES), "usd": usd} for usd in dollars]

    found = chance.as_json(range(4), runs(1, 2, 4, None), runs(3, 2, 1, 9))
    assert found["usd"] == {"lowest": 1, "median": 2, "highest": 4}
    assert found["differences"]["usd"] == {"lowest": -3, "median": 0, "highest": 2}
    assert found["ttft_p95_s"] == {"lowest": None, "median": None, "highest": None}


def test_one_run_says_that_it_is_one(stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", manifests, "--trace", "t"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    assert notes[0] == "- one run of one seed; --seeds 8 shows how much chance matters"
    assert notes.count(notes[0]) == 1


def test_node_groups_stand_in_place_of_the_pools(stand_in: StandIn, manifests: str) -> None:
    words = ["--node-group", "g6.4xlarge,min=1,max=4,spot", "--node-group", "m7i.large"]
    assert run(["simulate", manifests, "--trace", "t", "--json", *words]) == 0

    [(scenario, *_)] = stand_in.runs
    assert scenario.pools == ()
    assert [(g.view.name, g.type, g.minimum, g.maximum) for g in scenario.groups] == [
        ("gpu-g6.4xlarge-spot", "g6.4xlarge", 1, 4),
        ("m7i.large-on-demand", "m7i.large", 0, 10),
    ]


FAMILY = {"karpenter.k8s.aws/instance-family": requirement("karpenter.k8s.aws/instance-family", "In", ["g6", "m7i"])}
TAINT = Taint("team", "batch", "NoSchedule")


def serving(name: str, replicas: int, pool: str) -> Workload:
    wants = {"for": requirement("for", "In", [pool])}
    view = PodView(requirements=(wants,), requests={"nvidia.com/gpu": 1, "pods": 1})
    model = Serving(name, "Qwen/Qwen3-8B", 1, "balance", 8)
    return Workload(f"Deployment ai/{name}", "Deployment", PodShape(view), replicas, serving=model)


def test_a_node_group_stands_for_the_pool_whose_serving_pods_it_takes() -> None:
    heavy = Pool(NodePoolView("heavy", requirements=FAMILY, taints=(TAINT,), weight=100))
    few, many = (Pool(NodePoolView(name, requirements=FAMILY, labels={"for": name})) for name in ("few", "many"))
    found = Scenario((serving("a", 1, "few"), serving("b", 3, "many")), pools=(heavy, few, many))

    assert node_groups.parse("g6.2xlarge", found).view.name == "many-g6.2xlarge-on-demand"
    assert node_groups.parse("g6.2xlarge,pool=heavy", found).view.name == "heavy-g6.2xlarge-on-demand"
    assert node_groups.parse("m7i.large", found).view.name == "heavy-m7i.large-on-demand"  # nobody fits: by weight


def test_what_keeps_all_pods_off_a_node_group_is_said() -> None:
    heavy = Pool(NodePoolView("heavy", requirements=FAMILY, taints=(TAINT,)))
    found = Scenario((MODEL, serving("a", 1, "few")), pools=(heavy,), notes=(NO_NODES, "other"))

    tainted = node_groups.parse("g6.2xlarge", found)
    assert node_groups.with_groups(found, [tainted]).notes == (
        "node group heavy-g6.2xlarge-on-demand: no pod that serves a model fits it; Deployment ai/a: the taint "
        "team=batch:NoSchedule is not tolerated, the label for must be few and is not there",
        "other",
    )
    bare = replace(tainted, view=NodePoolView("bare"), type="m7i.large")
    assert node_groups.with_groups(Scenario((MODEL,)), [bare]).notes == (
        "node group bare: no pod fits it; Deployment ai/model: too little nvidia.com/gpu, too little cpu",
    )
    assert node_groups.with_groups(found, []).notes == (NO_NODES, "other")
    assert node_groups.with_groups(Scenario((MODEL,)), [replace(bare, type="g6.2xlarge")]).notes == ()


def test_help_says_how_a_node_group_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--help"]) == 0
    assert "--node-group TYPE,min=N,max=N[,spot][,pool=NODEPOOL]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("g6.99xlarge", "there is no instance type 'g6.99xlarge'"),
        ("g6.2xlarge,most=3", "'most=3' is not understood"),
        ("g6.2xlarge,min=3,min=4", "'min=4' is not understood"),
        ("g6.2xlarge,min=5,max=4", "min (5) is above max (4)"),
        ("g6.2xlarge,max=-1", "'-1' is no number of nodes from 0 to 1000"),
        ("g6.2xlarge,spot,on-demand", "a group has one capacity type"),
        ("g6.2xlarge,pool=cpu", "there is no NodePool 'cpu'; there are: gpu"),
    ],
)
def test_a_node_group_that_cannot_be_says_why(text: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        node_groups.parse(text, SCENARIO)
    assert why in caught.value.message
    assert "g6.2xlarge,min=0,max=10,spot" in str(caught.value.hint)


# -- what is asked wrongly --


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "say which manifests"),
        (["."], "say which requests"),
        (["-", "--trace", "t", "--compare", "-"], "stdin can be read once"),
        (["nowhere", "--trace", "t"], "there is no nowhere"),
        ([".", "--trace", "t", "--scale", "0"], "0.0 is not in the range"),
        ([".", "--trace", "t", "--seeds", "1"], "1 is not in the range"),
        ([".", "--trace", "t", "--seeds", "51"], "51 is not in the range"),
        ([".", "--trace", "t", "--to", "a=-1"], "--to has 'a=-1'"),
        ([".", "--trace", "t", "--prior", "boot_s"], "--prior is 'boot_s'"),
        ([".", "--trace", "t", "--start", "monday"], "--start is 'monday', which is no date"),
        ([".", "--trace", "t", "--start", "1492-10-12"], "--start is '1492-10-12'"),
        ([".", "--trace", "t", "--start", "9999-12-31T23:00-05:00"], "which is no date"),
        ([".", "--trace", "t", "--drift", "2026-01-01"], "--drift is '2026-01-01', which is no moment"),
        (["", "--trace", "t"], "PATH is empty"),
        ([".", "--trace", "t", "--to", ""], "--to has ''"),
        ([".", "--trace", "t", "--hours", "nan"], "nan is no number to reckon with"),
        ([".", "--trace", "t", "--hours", "9000"], "9000.0 is not in the range"),
        ([".", "--trace", "t", "--slo-ttft", "inf"], "inf is no number to reckon with"),
        ([".", "--trace", "t", "--ice", "1.5"], "1.5 is not in the range"),
        ([".", "--trace", "t", "--weights", "general"], "--weights is 'general'"),
        ([".", "--trace", "t", "--weights", "=Qwen/Qwen3-8B"], "--weights is '=Qwen/Qwen3-8B'"),
        ([".", "--trace", "t", "--weights", "a=x", "--weights", "a=y"], "--weights is 'a=y', and a has x already"),
        ([".", "--trace", "t", "--region", "mars-1"], "--region is 'mars-1', which is not known"),
        ([".", "--trace", "t", "--explain", "pdo", "llm-code-1"], "--explain is 'pdo', which is no moment"),
        ([".", "--trace", "t", "--explain", "node"], "--explain node: which one?"),
        ([".", "--trace", "t", "--html", ""], "--html is empty"),
        ([".", "--trace", "t", "--compare", "cluster-autoscale"], "there is no cluster-autoscale"),
    ],
)
def test_who_asks_wrongly_is_told_what_would_be_right(
    stand_in: StandIn, words: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", *words]) == 2

    said = capsys.readouterr()
    assert error in said.err
    assert "\n\nhint: " in said.err
    assert said.out == ""
    assert stand_in.runs == []


def test_a_folder_without_manifests_is_named(
    stand_in: StandIn, manifests: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "readme.txt").write_text("hello")
    for words in ([str(empty)], [manifests, "--compare", str(empty)]):
        assert run(["simulate", *words, "--trace", "t"]) == 2
        assert f"there are no manifests in {empty}\n\nhint: " in capsys.readouterr().err
    assert stand_in.runs == []


def test_what_cannot_be_read_is_said_and_the_rest_is_run(
    stand_in: StandIn, manifests: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ruined.yaml").write_text("apiVersion: v1\nkind: [b\n")
    again = "kind: ConfigMap\n" * 6
    (tmp_path / "many.yaml").write_text(f"apiVersion: v1\n{again}metadata: {{name: b}}\n")
    assert run(["simulate", manifests, "--trace", "t", "--json"]) == 0

    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"not read: {tmp_path}/ruined.yaml:")
    assert said[1].startswith(f"{tmp_path}/many.yaml:3: kind is written twice here")
    assert said[5:] == ["and 1 more: `stoker lint` shows all"]
    assert stand_in.reads[0][0] == 2


def test_every_option_is_explained_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulate" / "index.md").read_text()
    table = page.partition("## What you can say")[2].partition("\n## ")[0]
    explained = {
        word for line in table.splitlines() for word in re.findall(r"--[a-z][a-z0-9-]*", line.partition(" | ")[0])
    }
    options = {name for each in simulate.params if isinstance(each, click.Option) for name in each.opts}
    assert explained == options


def test_shares_are_of_their_sum() -> None:
    assert shares(None) == {}
    assert shares("code") == {"code": 1.0}
    assert shares("a=1, b=3") == {"a": 0.25, "b": 0.75}
    assert numbers(("a=1", "b=2.5")) == {"a": 1.0, "b": 2.5}
    assert named_weights(("a=Qwen/Qwen3-8B", "b = s3://x/y", "a=Qwen/Qwen3-8B")) == {
        "a": "Qwen/Qwen3-8B",
        "b": "s3://x/y",
    }


# -- without stand-ins --


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `stoker render` writes of what `stoker init` writes."""
    folder = tmp_path_factory.mktemp("rendered")
    assert run(["init", "-f", str(folder / "platform.yaml")]) == 0
    assert run(["render", "-f", str(folder / "platform.yaml"), "-o", str(folder / "manifests")]) == 0
    return str(folder / "manifests")


@pytest.fixture
def collected() -> Iterator[None]:
    yield
    gc.enable()


SHORT = "poisson:rate=4,seconds=60,prompt=800,completion=150"


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["simulate", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_what_render_writes_is_simulated_with_each_option(
    collected: None, rendered: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prices.csv").write_text("type,zone,capacity,usd_per_hour\ng6.xlarge,us-west-2a,spot,0.25\n")
    (tmp_path / "market.csv").write_text("at_s,available\n0,9\n")
    words = [rendered, "--trace", SHORT, "--trace", "poisson:rate=1,seconds=30", "--scale", "2", "--speed", "2"]
    words += ["--hours", "0.05", "--to", "general=3,code=1", "--seed", "5", "--start", "2026-02-03T04:05", "--cold"]
    words += ["--timeout", "90", "--slo-ttft", "0.001", "--slo-e2e", "30", "--region", "us-west-2", "--ice", "0.01"]
    words += ["--interruptions", "0.01", "--spot-trace", str(tmp_path / "market.csv"), "--spot-to-spot"]
    words += ["--prices", str(tmp_path / "prices.csv"), "--drift", "0:02", "--prior", "boot_s=5"]
    words += ["--weights", "vision=Qwen/Qwen2.5-VL-7B-Instruct", "--explain", "0:01", "--compare", rendered]
    words += ["--html", str(tmp_path / "r.html")]
    figures = told(words, capsys)

    requests = figures["requests"]
    assert requests["arrived"] == requests["served"] + requests["rejected"] + requests["in_flight"] > 400
    assert requests["by_model"]["vision"]["arrived"] == 0
    assert requests["by_model"]["general"]["arrived"] > requests["by_model"]["code"]["arrived"] > 0
    assert requests["rejected_by"]["timed_out"] > 0  # cold, and 90 s is less than a start
    assert (figures["seed"], figures["ended_at_s"], figures["began_at"]) == (5, 180.0, "2026-02-03T04:05:00Z")
    assert figures["assumptions"]["boot_s"] == 5.0
    assert figures["targets"] == {"ttft_s": 0.001, "e2e_s": 30.0}
    assert figures["explained"][0].startswith("0:01:00  (2026-02-03 04:06:00 UTC)")
    compared = figures["compared"]["report"]
    assert {**compared, "wall_s": 0} == {
        **{name: value for name, value in figures.items() if name not in ("compared", "explained")},
        "wall_s": 0,
    }
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_what_render_writes_runs_on_node_groups(
    collected: None, rendered: str, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = ["--node-group", "g6.48xlarge,min=1,max=2,spot", "--node-group", "m7i.2xlarge,min=1,max=2"]
    figures = told([rendered, "--trace", SHORT, *groups], capsys)

    assert figures["kind"] == "groups"
    assert set(figures["nodes"]["by_type"]) == {"g6.48xlarge", "m7i.2xlarge"}
    assert figures["requests"]["served"] > 100


# -- small things of the table --


def test_a_sparkline_has_the_highest_of_each_stretch_and_shows_all_that_is_above_zero() -> None:
    assert simulated.sparkline([0, 1, 80, 40]) == " ▁█▄"
    assert simulated.sparkline([0] * 50 + [9] + [0] * 29) == " " * 25 + "█" + " " * 14
    assert simulated.sparkline([]) == ""
    assert simulated.sparkline([0, 0]) == "  "


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.018, "18ms"), (4.136, "4.14s"), (68.0, "1:08"), (600.0, "10:00"), (7384.0, "2:03:04")],
)
def test_times_are_short_in_the_table(seconds: float | None, text: str) -> None:
    assert simulated.short(seconds) == text


def test_long_runs_show_how_far_they_are_on_a_terminal_alone(
    stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(["simulate", manifests, "--trace", "t", "--json"]) == 0

    said = capsys.readouterr()
    assert said.err.count("simulating") == 3  # 0, 50 and 100 per cent, each drawn once
    assert " 50 %" in said.err
    assert json.loads(said.out)["seed"] == 7
