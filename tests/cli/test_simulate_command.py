"""`stoker simulate`: what is asked of the run, and how its report is said. The run itself is a stand-in."""

import gc
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from results import a_result, renamed

from stoker.base.errors import InvalidInput
from stoker.cli import simulated
from stoker.cli.app import run
from stoker.cli.simulate import joined, numbers, shares
from stoker.policy.cluster import PodShape
from stoker.policy.placement import NodePoolView, PodView
from stoker.policy.requirements import requirement
from stoker.simulate import node_groups
from stoker.simulate.scenario import Pool, Scenario, Workload

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
    runs: list[tuple[Any, Any, dict[str, Any]]] = field(default_factory=list)
    loads: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    reads: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def simulate(self, scenario: Any, trace: Any, options: Any, *, progress: Callable[[float], None] | None) -> Any:
        self.runs.append((scenario, trace, vars(options)))
        for each in (0.0, 0.5, 0.501, 1.0) if progress else ():
            progress(each)  # type: ignore[misc]
        return replace(self.result, kind="groups") if scenario.groups else self.result

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
    words += ["--prior", "boot_s=60", "--trace", "one", "--trace", "two"]
    assert run(["simulate", manifests, *words, "--json"]) == 0

    given = {"scale": 2.0, "speed": 4.0, "seed": 5, "limit_s": 3 * 3600 * 4.0}
    assert stand_in.loads == [("one", given), ("two", given)]
    assert stand_in.reads == [(1, {"region": "eu-west-1", "default_model": "general"})]
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
    assert run(["simulate", manifests, "--trace", "t", "--html", str(tmp_path / "no" / "r.html")]) == 2
    assert "r.html cannot be written: No such file or directory" in capsys.readouterr().err


def test_names_cannot_move_the_cursor(stand_in: StandIn, manifests: str, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in.result = renamed(a_result(), "\x1b[2J\n")
    assert run(["simulate", manifests, "--trace", "t"]) == 0
    assert run(["simulate", manifests, "--trace", "t", "--explain", "0:15"]) == 0

    assert "\x1b" not in capsys.readouterr().out


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


def test_node_groups_stand_in_place_of_the_pools(stand_in: StandIn, manifests: str) -> None:
    words = ["--node-group", "g6.4xlarge,min=1,max=4,spot", "--node-group", "m7i.large"]
    assert run(["simulate", manifests, "--trace", "t", "--json", *words]) == 0

    [(scenario, *_)] = stand_in.runs
    assert scenario.pools == ()
    assert [(g.view.name, g.type, g.minimum, g.maximum) for g in scenario.groups] == [
        ("gpu-g6.4xlarge-spot", "g6.4xlarge", 1, 4),
        ("m7i.large-on-demand", "m7i.large", 0, 10),
    ]


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
        ([".", "--trace", "t", "--to", "a=-1"], "--to has 'a=-1'"),
        ([".", "--trace", "t", "--prior", "boot_s"], "--prior is 'boot_s'"),
        ([".", "--trace", "t", "--start", "monday"], "--start is 'monday', which is no date"),
        ([".", "--trace", "t", "--drift", "2026-01-01"], "--drift is '2026-01-01', which is no moment"),
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


def test_shares_are_of_their_sum() -> None:
    assert shares(None) == {}
    assert shares("code") == {"code": 1.0}
    assert shares("a=1, b=3") == {"a": 0.25, "b": 0.75}
    assert numbers(("a=1", "b=2.5")) == {"a": 1.0, "b": 2.5}


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
