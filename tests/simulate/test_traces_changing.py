"""Cut, scaled, sped, merged: what stays, what moves, and that nothing is lost."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.base.errors import InvalidInput
from stoker.simulate.trace import Trace
from stoker.simulate.traces import load, merge
from stoker.simulate.traces.changing import JITTER_S, scaled
from stoker.simulate.traces.making import Options, made


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    times = sorted(draw(st.lists(st.floats(0, 1000, allow_nan=False), min_size=1, max_size=60)))
    count = len(times)
    names = draw(st.lists(st.sampled_from("abc"), max_size=3, unique=True))
    numbers = draw(st.lists(st.integers(-1, len(names) - 1), min_size=count, max_size=count))
    return made(
        "t",
        np.array(times),
        np.arange(1, count + 1),
        np.arange(count, 0, -1),
        model=np.array(numbers),
        tenant=np.array(numbers),
        models=tuple(names),
        tenants=tuple(names),
    )


def bag(trace: Trace) -> list[tuple[float, int, int, str, str]]:
    """Its requests with the names that they have."""
    models, tenants = (*trace.models, ""), (*trace.tenants, "")
    return [
        (float(at), int(prompt), int(completion), models[model], tenants[tenant])
        for at, prompt, completion, model, tenant in zip(
            trace.at_s, trace.prompt_tokens, trace.completion_tokens, trace.model, trace.tenant, strict=True
        )
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(traces(), min_size=1, max_size=4))
def test_merge_conserves_every_request(several: list[Trace]) -> None:
    merged = merge(several)
    assert sorted(bag(merged)) == sorted(request for trace in several for request in bag(trace))
    assert (np.diff(merged.at_s) >= 0).all()
    assert (merged.model.dtype, merged.tenant.dtype) == (np.int16, np.int32)


@settings(max_examples=60, deadline=None)
@given(traces(), st.floats(0.05, 4), st.integers(0, 5))
def test_a_scaled_trace_stays_in_its_time_and_in_order(trace: Trace, scale: float, seed: int) -> None:
    try:
        found = scaled(trace, scale, Options(seed=seed))
    except InvalidInput:
        assert scale < 1
        return
    assert int(scale) * len(trace) <= len(found) <= (int(scale) + 1) * len(trace)
    assert (np.diff(found.at_s) >= 0).all()
    assert 0 <= found.at_s[0] <= found.at_s[-1] <= trace.duration_s
    assert {(row[1], row[3]) for row in bag(found)} <= {(row[1], row[3]) for row in bag(trace)}
    if scale >= 1:
        left = bag(found)
        for row in bag(trace):  # each is there as it was
            left.remove(row)


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.5, 3.25])
def test_scale_gives_so_many_times_as_many(scale: float) -> None:
    assert len(load("azure-conversation", scale=scale)) == pytest.approx(scale * 19366, rel=0.03)


def test_a_sample_of_a_sample_is_the_smaller_sample() -> None:
    small, large = (set(bag(load("azure-code", scale=scale))) for scale in (0.2, 0.6))
    assert small < large < set(bag(load("azure-code")))


def test_copies_are_near_and_not_in_lockstep(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(
        "at_s,prompt_tokens,completion_tokens\n" + "".join(f"{each * 100},{each + 1},1\n" for each in range(50))
    )
    trace = load(str(file), scale=3)
    assert len(trace) == 150
    moved = trace.at_s - (trace.prompt_tokens - 1) * 100
    assert np.abs(moved).max() <= JITTER_S
    assert (moved == 0).sum() == 50
    assert np.abs(moved).max() > 25
    assert trace.notes == ("3 requests for each of 50; copies are moved by up to 30 s",)


def test_no_request_is_left() -> None:
    with pytest.raises(InvalidInput, match="scale 1e-09 leaves none of the 8819 requests of azure-code") as refused:
        load("azure-code", scale=1e-9)
    assert refused.value.param == "scale"
    with pytest.raises(InvalidInput, match="would have about 19,366,000 requests; 10,000,000 is the most"):
        load("azure-conversation", scale=1000)


def test_speed_divides_times_after_the_limit_cut_them() -> None:
    whole, fast = load("azure-code"), load("azure-code", limit_s=600, speed=4)
    count = int((whole.at_s < 600).sum())
    assert len(fast) == count
    assert fast.at_s.tolist() == (whole.at_s[:count] / 4).tolist()
    assert fast.notes[1:] == (
        f"its first 600 s: {count} requests",
        "times divided by 4 (speed)",
    )


def test_a_limit_before_the_first_request(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("at_s,prompt_tokens,completion_tokens\n50,1,1\n")
    with pytest.raises(InvalidInput, match=r"^t.csv has no request in its first 10 s; the first is at 50 s$"):
        load(str(file), limit_s=10)
    assert len(load(str(file), limit_s=50.001)) == 1


def test_merged_traces_begin_together_and_share_names() -> None:
    began = datetime(2026, 1, 31, tzinfo=UTC)
    one = made("one", np.array([0.0, 2.0]), np.array([1, 2]), np.array([1, 1]), model=np.array([0, 1]), models=("a", "b"), notes=("n",))  # fmt: skip  # noqa: E501
    two = made("two", np.array([1.0, 2.0]), np.array([3, 4]), np.array([1, 1]), model=np.array([0, -1]), models=("b",), began_at=began)  # fmt: skip  # noqa: E501
    merged = merge([one, two])
    assert merged.prompt_tokens.tolist() == [1, 3, 2, 4], "equal times in the order of the traces"
    assert (merged.models, merged.model.tolist()) == (("a", "b"), [0, 1, 1, -1])
    assert (merged.name, merged.notes, merged.began_at) == ("one + two", ("one: n",), began)
    assert merge([one]) is one
    with pytest.raises(InvalidInput, match="no trace was given"):
        merge([])
