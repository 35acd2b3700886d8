"""Requests made up from ServeGen's rates: as many as were counted, with the gaps that were fitted."""

import json
from pathlib import Path

import numpy as np
import pytest

from stoker.base.errors import InvalidInput
from stoker.simulate.traces import load

HEADER = "client,t_s,rate_rps,cv,dist,param1,param2\n"


def write(tmp_path: Path, *rows: str, name: str = "servegen_m-large_rates.csv") -> str:
    file = tmp_path / name
    file.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return str(file)


def test_each_window_has_the_requests_that_were_counted(tmp_path: Path) -> None:
    rates = write(tmp_path, "7,0,1.33167,8.6,Weibull,0.375,0.397", "7,1200,0.5,1,Gamma,1,2", "9,600,0.02,1,Gamma,1,50")
    trace = load(rates)
    assert trace.tenants == ("client-7", "client-9")
    by_window = np.histogram(trace.at_s, bins=[0, 600, 1200, 1800])[0]
    assert by_window.tolist() == [799, 12, 300]
    assert (trace.tenant == 1).sum() == 12
    assert np.array_equal(load(rates).at_s, trace.at_s)
    assert not np.array_equal(load(rates, seed=1).at_s, trace.at_s)


def test_a_run_that_is_shorter_than_its_window_stays_together(tmp_path: Path) -> None:
    """46 requests with gaps of a thirtieth of a second are a burst, wherever in the ten minutes."""
    trace = load(write(tmp_path, "0,143400,0.0766667,1.1562,Gamma,0.74802,0.044354"))
    assert len(trace) == 46
    assert 143400 <= trace.at_s[0] <= trace.at_s[-1] <= 144000
    assert 0.5 < trace.at_s[-1] - trace.at_s[0] < 4


@pytest.mark.parametrize(("family", "shape", "size", "cv"), [("Gamma", 4, 0.015, 0.5), ("Weibull", 0.5, 0.03, 2.236)])
def test_gaps_have_the_fitted_shape(tmp_path: Path, family: str, shape: float, size: float, cv: float) -> None:
    """Each has a mean gap of 0.06 s."""
    gaps = np.diff(load(write(tmp_path, f"0,0,15,1,{family},{shape},{size}")).at_s)
    assert len(gaps) == 8999
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1)


@pytest.mark.parametrize("family", ["Gamma,4,0.015", "Weibull,0.5,0.03"])
def test_a_thinned_run_is_as_long_as_the_whole_and_less_regular_or_bursty(tmp_path: Path, family: str) -> None:
    """Kept by chance, the gaps near an exponential's: 1 in 20 leaves 1 + (cv^2 - 1) / 20 of the variance."""
    rates = write(tmp_path, *(f"{client},0,15,1,{family}" for client in range(20)))
    trace = load(rates, scale=0.05)
    assert len(trace) == pytest.approx(9000, rel=0.05)
    assert trace.at_s[-1] > 590
    gaps = np.concatenate([np.diff(trace.at_s[trace.tenant == each]) for each in range(20)])
    was = 0.5 if family.startswith("Gamma") else 2.236
    assert (gaps.std() / gaps.mean()) ** 2 == pytest.approx(1 + (was**2 - 1) / 20, rel=0.12)


def test_a_larger_scale_is_the_same_clients_side_by_side(tmp_path: Path) -> None:
    trace = load(write(tmp_path, "0,0,0.5,1,Gamma,1,2"), scale=2.5)
    assert len(trace) == pytest.approx(750, abs=40)
    assert len(np.unique(trace.at_s)) == len(trace)


def test_only_windows_before_the_limit_are_made(tmp_path: Path) -> None:
    rates = write(tmp_path, "0,0,0.5,1,Gamma,1,2", "0,600,0.5,1,Gamma,1,2", "0,1200,100000,1,Gamma,1,2")
    assert len(load(rates, limit_s=1200)) == 600
    with pytest.raises(InvalidInput, match="would have about 60,000,600 requests; 10,000,000 is the most") as refused:
        load(rates)
    assert (refused.value.param, refused.value.hint) == (
        "scale",
        "a scale of 0.15 or a shorter time brings it below that",
    )


def test_lengths_are_those_beside_the_file(tmp_path: Path) -> None:
    lengths = {"input_tokens": {"quantiles": [10, 10]}, "output_tokens": {"mean": 20, "quantiles": [10, 20, 60]}}
    (tmp_path / "servegen_lengths.json").write_text(json.dumps({"models": {"mine": lengths}}))
    trace = load(write(tmp_path, "0,0,10,1,Gamma,1,0.1", name="servegen_mine_rates.csv"))
    assert set(trace.prompt_tokens.tolist()) == {10}
    assert trace.completion_tokens.mean() == pytest.approx(20, rel=0.02), "the tail is bent until the mean is right"
    assert np.median(trace.completion_tokens) == pytest.approx(20, abs=1)
    other = load(write(tmp_path, "0,0,10,1,Gamma,1,0.1", name="servegen_other_rates.csv"))
    assert "the lengths are those of m-large: none are known of other" in other.notes
    (tmp_path / "servegen_lengths.json").write_text('{"models": {"mine": {"input_tokens": 3}}}')
    with pytest.raises(InvalidInput, match=r"^servegen_lengths.json holds no lengths"):
        load(write(tmp_path, "0,0,10,1,Gamma,1,0.1"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0,600,1,1,Pareto,1,1", "dist is 'Pareto'; known are Gamma and Weibull"),
        ("0,600,1,1,,1,1", "dist is ''; known are Gamma and Weibull"),
        ("0,599,1,1,Gamma,1,1", "t_s is 599, less than 600 s after the window before it of client '0'"),
        ("0,600,-1,1,Gamma,1,1", "rate_rps is '-1', which is negative"),
        ("0,600,1,1,Gamma,0,1", "param1 is '0', which is not above 0"),
        ("0,600,1,1,Weibull,0.001,1", "param1 is 0.001; a Weibull of below 0.02 has no use"),
    ],
)
def test_rates_that_mean_nothing(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(write(tmp_path, "0,0,1,1,Gamma,1,1", row))
    assert refused.value.message == f"servegen_m-large_rates.csv, line 3: {said}"
