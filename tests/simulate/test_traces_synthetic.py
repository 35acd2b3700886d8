"""`KIND:NAME=VALUE,...`: what it gives, and what it says to what it cannot mean."""

from pathlib import Path

import numpy as np
import pytest

from stoker.base.errors import InvalidInput
from stoker.simulate.trace import ANY, Trace
from stoker.simulate.traces import load
from stoker.simulate.traces.synthetic import KINDS


def dispersion(trace: Trace, window_s: float = 10.0) -> float:
    """Variance of the counts of windows by their mean: 1 for a Poisson process."""
    counts = np.histogram(trace.at_s, bins=np.arange(0, trace.duration_s, window_s))[0]
    return float(counts.var() / counts.mean())


def test_poisson_is_pinned() -> None:
    """The same numbers for ever: on every machine, with every numpy."""
    trace = load("poisson:rate=5,seconds=3600,prompt=500,completion=150")
    assert len(trace) == 17760
    assert trace.at_s[:2].tolist() == [0.2841563105583589, 0.8135733857574046]
    assert trace.prompt_tokens[:4].tolist() == [116, 529, 494, 133]
    assert (set(trace.model), set(trace.tenant)) == ({ANY}, {ANY})
    assert (trace.name, trace.notes) == ("poisson:rate=5,seconds=3600,prompt=500,completion=150", ("made up",))


@pytest.mark.parametrize("what", ["poisson:rate=5", "bursty:rate=5", "bursty:rate=5,on=5,off=5", "diurnal:peak=1"])
def test_the_seed_says_everything(what: str) -> None:
    one, again, other = load(what), load(what), load(what, seed=1)
    assert np.array_equal(one.at_s, again.at_s)
    assert np.array_equal(one.prompt_tokens, again.prompt_tokens)
    assert not np.array_equal(one.at_s, other.at_s)
    assert (np.diff(one.at_s) >= 0).all()
    assert one.at_s[0] >= 0


def test_lengths_have_their_mean_and_spread() -> None:
    trace = load("poisson:rate=20,prompt=800,prompt_cv=2,completion=100,completion_cv=0,cached=0.25")
    assert trace.prompt_tokens.mean() == pytest.approx(800, rel=0.03)
    assert trace.prompt_tokens.std() / trace.prompt_tokens.mean() == pytest.approx(2, rel=0.1)
    assert set(trace.completion_tokens.tolist()) == {100}
    assert np.array_equal(trace.cached_tokens, trace.prompt_tokens // 4)


def test_models_by_share_and_tenants_by_zipf() -> None:
    trace = load("poisson:rate=20,models=general:0.7;code:0.3,tenants=3")
    assert trace.models == ("general", "code")
    assert np.bincount(trace.model) / len(trace) == pytest.approx([0.7, 0.3], abs=0.01)
    assert trace.tenants == ("tenant-1", "tenant-2", "tenant-3")
    assert np.bincount(trace.tenant) / len(trace) == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.01)
    assert load("poisson:models=a;b").models == ("a", "b")
    assert load("poisson:models=ns:a:3;b").models == ("ns:a", "b")


def test_bursty_has_the_rate_and_more_spread() -> None:
    gamma = load("bursty:rate=5,seconds=40000,cv=3")
    assert len(gamma) == pytest.approx(200_000, rel=0.03)
    gaps = np.diff(gamma.at_s)
    assert gaps.std() / gaps.mean() == pytest.approx(3, rel=0.03)
    several = [load("bursty:rate=5,seconds=100000,on=30,off=90", seed=seed) for seed in range(8)]
    assert np.mean([len(each) for each in several]) == pytest.approx(500_000, rel=0.03)
    on_off = several[0]
    assert dispersion(on_off) > 50 > 2 > dispersion(load("poisson:rate=5,seconds=40000")) > 0.9
    busy = np.histogram(on_off.at_s, bins=np.arange(0, 100_000, 1))[0]
    assert np.mean(busy == 0) == pytest.approx(0.74, abs=0.03), "three quarters of the time nothing comes"
    idle = load("bursty:rate=5,seconds=100000,on=30,off=90,idle=0.5")
    assert len(idle) == pytest.approx(500_000, rel=0.03)
    assert np.mean(np.histogram(idle.at_s, bins=np.arange(0, 100_000, 1))[0] == 0) < 0.05


def test_gaps_without_spread_are_even() -> None:
    trace = load("bursty:rate=2,seconds=100,cv=0")
    assert len(trace) == 200
    assert np.diff(trace.at_s) == pytest.approx(0.5)


def test_diurnal_goes_up_and_down() -> None:
    trace = load("diurnal:peak=5,trough=1,peak_at=14,seconds=172800")
    by_hour = np.histogram(trace.at_s, bins=np.arange(49) * 3600)[0] / 3600
    assert len(trace) == pytest.approx(3 * 172_800, rel=0.01)
    for day in (0, 24):
        assert by_hour[day + 13 : day + 15] == pytest.approx([5, 5], rel=0.06)
        assert by_hour[day + 1 : day + 3] == pytest.approx([1, 1], rel=0.1)
        assert by_hour[day + 8] == pytest.approx(3.26, rel=0.06), "an eighth of an hour after the middle"


def test_scale_is_a_factor_of_the_rate() -> None:
    assert len(load("poisson:rate=5", scale=3)) == pytest.approx(54_000, rel=0.02)
    assert len(load("diurnal:peak=1,trough=1", scale=0.1)) == pytest.approx(8640, rel=0.05)
    assert len(load("bursty:rate=5,on=1,off=1", scale=2)) == pytest.approx(36_000, rel=0.1)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("poisson:rat=5", "poisson has no parameter 'rat'"),
        ("poisson:cv=5", "poisson has no parameter 'cv'"),
        ("poisson:rate", "'rate' is no NAME=VALUE"),
        ("poisson:rate=5,rate=6", "rate is there twice"),
        ("poisson:rate=x", "rate is 'x', which is no number"),
        ("poisson:rate=", "rate is '', which is no number"),
        ("poisson:rate=nan", "rate is 'nan', which is no number"),
        ("poisson:rate=1_0", "rate is '1_0', which is no number"),
        ("poisson:rate=-5", "rate is -5; it is from 0 to 1e+09"),
        ("poisson:rate=0", "rate is 0; it is above 0"),
        ("poisson:seconds=0", "seconds is 0; it is above 0"),
        ("poisson:prompt=0", "prompt is 0; it is from 1 to 2.14748e+09"),
        ("poisson:cached=2", "cached is 2; it is from 0 to 1"),
        ("poisson:tenants=1.5", "tenants is 1.5; it is a whole number"),
        ("poisson:models=a:1;a:2", "models is 'a:1;a:2'"),
        ("poisson:models=a:x", "the share of model a is 'x', which is no number"),
        ("poisson:models=a:0", "no model has a share above 0"),
        ("bursty:on=5", "on and off go together: mean seconds of a burst, and between bursts"),
        ("bursty:on=5,off=5,cv=3", "cv and on/off are two ways to be bursty; write one of them"),
        ("bursty:idle=0.5", "idle goes with on and off"),
        ("bursty:on=0.001,off=0.001", "more than 1,000,000 bursts; make on and off longer, or seconds shorter"),
        ("diurnal:peak=1,trough=2", "trough is 2, above peak, which is 1"),
        ("diurnal:peak=0,trough=0", "peak is 0; it is above 0"),
        ("poisson:rate=0.000001,seconds=1", "no request comes in 1 s"),
    ],
)
def test_what_is_no_load_is_refused(what: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(what)
    assert refused.value.message == f"{what}: {said}"
    assert refused.value.param == "trace"


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_parameter_is_answered_with_those_that_exist(kind: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(f"{kind}:nothing=1")
    assert refused.value.hint == f"{kind} has {', '.join([*KINDS[kind].parameters, 'models'])}"


def test_too_many_are_refused_before_they_are_made() -> None:
    with pytest.raises(InvalidInput, match="would have about 1,000,000,000,000,000 requests") as refused:
        load("poisson:rate=1000000,seconds=1000000000")
    assert refused.value.param == "scale"


def test_the_page_lists_every_parameter_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulate" / "traces.md").read_text()
    for kind, each in KINDS.items():
        assert f"`{kind}:" in page
        for name, allowed in each.parameters.items():
            assert f"| `{name}` | {allowed.default:g} |" in page
