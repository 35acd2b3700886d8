"""Why it did what it did, in words."""

from dataclasses import replace

import pytest
from results import a_result

from stoker.base.errors import InvalidInput, NotFound
from stoker.simulate import moments
from stoker.simulate.explain import explain

RESULT = a_result()


def test_a_moment_is_told_by_how_things_stood_and_what_was_decided_around_it() -> None:
    assert explain(RESULT, "0:15:20") == (
        "0:15:20  (2026-01-05 08:15:20 UTC)\n"
        "\n"
        "How things stood\n"
        "  general  2 of 3 wanted replicas ready, 41 requests waiting, 18 running\n"
        "  code     0 of 1 wanted replicas ready, 26 requests waiting, 0 running\n"
        "  vision   1 of 1 wanted replicas ready, 0 requests waiting, 2 running\n"
        "  nodes    1 g6.2xlarge on-demand, 1 g6e.xlarge on-demand, 1 g5.xlarge spot, 1 g6.2xlarge spot\n"
        "  money    $3.68 per hour\n"
        "           (as of 0:15:15)\n"
        "\n"
        "What was decided, from 0:15:15 to 0:15:30\n"
        "    0:15:15  scale         general: 2 -> 3: waiting 30 at 10 each\n"
        "                            target 10, waiting 30\n"
        "    0:15:30  no capacity   gpu-spot: g6.2xlarge spot in us-east-1c: none to be had\n"
        "    0:15:30  scale         general: 3 -> 4: waiting 41 at 10 each\n"
        "                            target 10, waiting 41\n"
        "    0:15:30  pod           model-code-c1: ready"
    )


def test_the_warm_up_is_told_by_the_lives_of_pods_and_nodes() -> None:
    first = replace(RESULT.replicas[0], created_at=-3600.0, ready_at=-3000.0, gone_at=None)
    launched = replace(RESULT.nodes[0], type="g6.xlarge", capacity="spot", launched_at=-3500.0, gone_at=None)
    later = replace(RESULT.journal[0], at=-3600.0)
    early = replace(RESULT, replicas=(first,), nodes=(launched,), journal=(later, *RESULT.journal))

    told = explain(early, "-0:30")
    assert told.startswith("-0:30:00  (2026-01-05 07:30:00 UTC)\n\nHow things stood\n")
    assert f"  {first.model:<7}  1 of 1 replicas ready\n" in told
    assert "  nodes    1 g6.xlarge spot\n" in told
    assert "(before the trace: no requests, and nothing is billed)" in told
    assert explain(early, "-30m") == told
    assert f"  {first.model:<7}  0 of 1 replicas ready\n" in explain(early, "-55m")


def test_where_nothing_was_decided_the_nearest_decisions_are_told() -> None:
    told = explain(RESULT, "40m")

    assert "Nothing was decided within a minute of it\n" in told
    assert "  6 min 00 s before: lost  model-general-a2: 2 requests were cut off" in told
    assert "  9 min 35 s after: disrupt  node-5: empty: consolidated" in told


def test_a_pods_life_is_told_by_phase_with_the_reasons() -> None:
    told = explain(RESULT, "pod model-code-c1")

    assert told.startswith(
        "pod model-code-c1 of Deployment agentic-ai/model-code, serves code, on node-4 (g5.xlarge spot, us-east-1c)\n"
    )
    life = told[told.index("Its life") : told.index("\n\nIt took")].split("\n")[1:]
    assert [" ".join(line.split()) for line in life] == [
        "0:10:00 made",
        "0:11:08 bound to its node after 1 min 08 s waiting 11.0 s, EC2 4.00 s, booting 53.0 s",
        "0:13:30 images there after 2 min 22 s",
        "0:14:22 weights loaded after 52.0 s",
        "0:15:30 ready after 1 min 08 s",
        "0:49:40 told to leave after 34 min 10 s no request for 5 minutes",
        "0:49:50 gone after 10.0 s",
    ]
    assert "code: 0 -> 1: waiting 1, activation 0" in told
    assert "model-code-c1: no node has room: nvidia.com/gpu 1" in told
    assert "node-4: g5.xlarge spot in us-east-1c" in told
    assert "node-5" not in told


def test_a_pod_that_did_not_get_ready_says_what_it_waited_for() -> None:
    assert "1:00:00  the run ends before: images there" in explain(RESULT, "pod model-code-c2")


def test_a_pod_without_a_node_says_so() -> None:
    lonely = replace(RESULT.replicas[3], node=None, bound_at=None, pulled_at=None, loaded_at=None, ready_at=None)
    told = explain(replace(RESULT, replicas=(lonely,)), "pod model-code-c1")

    assert "serves code, never on a node\n" in told
    assert "It took" not in told


def test_a_nodes_life_has_its_pods_and_its_price() -> None:
    told = explain(RESULT, "node node-2")

    assert told.startswith("node node-2: g6.2xlarge spot in us-east-1b, of gpu-spot, 1 GPU, $0.40 per hour\n")
    assert "  there; billed from now on" in told
    assert "In this run it was there for 34 min 00 s, some $0.23 of instance time." in told
    assert "   -0:14:50  model-general-a2, ready -0:08:20, gone 0:34:00" in told
    assert "node-2: spot notice: 120 s" in told


@pytest.mark.parametrize(
    ("what", "near"),
    [
        ("pod model-code-c", "did you mean model-code-c"),
        ("pod model", "model-code-c1"),
        ("pod zzz", "there are model-code-c1, "),
        ("node node-22", "did you mean node-2"),
    ],
)
def test_of_names_that_there_are_not_the_nearest_are_told(what: str, near: str) -> None:
    with pytest.raises(NotFound) as caught:
        explain(RESULT, what)

    assert caught.value.message == f"there was no {what.split()[0]} '{what.split()[1]}' in this run"
    assert near in str(caught.value.hint)


def test_a_run_without_nodes_says_so() -> None:
    with pytest.raises(NotFound) as caught:
        explain(replace(RESULT, nodes=()), "node n")
    assert caught.value.hint == "this run had no nodes"


@pytest.mark.parametrize("what", ["pod", "node  "])
def test_a_pod_or_a_node_needs_its_name(what: str) -> None:
    with pytest.raises(InvalidInput, match="which one"):
        explain(RESULT, what)


def test_a_moment_outside_of_the_run_is_refused_with_its_bounds() -> None:
    with pytest.raises(InvalidInput) as caught:
        explain(RESULT, "2h")
    assert (caught.value.message, caught.value.hint) == (
        "2:00:00 is outside of the run",
        "it lasted from 0:00:00 to 1:00:00",
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2040", 2040.0),
        ("34m", 2040.0),
        ("1h30m", 5400.0),
        ("1d", 86400.0),
        ("0:34", 2040.0),
        ("-0:34", -2040.0),
        ("-1m30s", -90.0),
        ("0:34:05", 2045.0),
        ("26:00", 93600.0),
        ("2026-01-05T08:34", 2040.0),
        ("2026-01-05 08:34:00Z", 2040.0),
        ("2026-01-05T09:34:00+01:00", 2040.0),
    ],
)
def test_moments_can_be_said_in_many_ways(text: str, seconds: float) -> None:
    assert moments.parse(text, "2026-01-05T08:00:00Z") == seconds


@pytest.mark.parametrize("text", ["", "soon", "1x", "-5", "0:99", "12:00:99", "2026-13-01", "nan", "1h-30m"])
def test_what_is_no_moment_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        moments.parse(text, "2026-01-05T08:00:00Z")
    assert "2026-01-05T08:34:00" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0 ms"),
        (0.0853, "85 ms"),
        (0.9996, "1.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (7380.0, "2 h 03 min"),
        (-5.0, "-5.00 s"),
    ],
)
def test_spans_have_the_digits_that_a_person_wants(seconds: float | None, text: str) -> None:
    assert moments.span(seconds) == text


def test_moments_before_the_trace_have_a_sign() -> None:
    assert [moments.clock(each) for each in (-300.0, -0.2, 0.0, 90061.0)] == [
        "-0:05:00",
        "0:00:00",
        "0:00:00",
        "25:01:01",
    ]
