"""The traces that ship: what is in them, that the collected files say the same, and whose they are."""

from pathlib import Path

import numpy as np
import pytest

from stoker.simulate.trace import Trace
from stoker.simulate.traces import load, shipped

SHARED = Path(__file__).parents[3] / "shared" / "data" / "traces"
collected = pytest.mark.skipif(not SHARED.is_dir(), reason="the collected traces are not beside this checkout")


def rows(trace: Trace, count: int) -> list[tuple[float, int, int, int]]:
    columns = (trace.at_s, trace.prompt_tokens, trace.completion_tokens, trace.cached_tokens)
    return list(zip(*(column[:count].tolist() for column in columns), strict=True))


def digest(trace: Trace) -> tuple[int, int, int, int]:
    columns = (trace.prompt_tokens, trace.completion_tokens, trace.cached_tokens)
    return (len(trace), *(int(column.sum()) for column in columns))


FIRST = {
    "azure-conversation": [(0.0, 374, 44, 0), (4.314579, 396, 109, 0), (4.541877, 879, 55, 0)],
    "azure-code": [(0.0, 4808, 10, 0), (0.052, 3180, 8, 0), (0.098189, 110, 27, 0)],
    "mooncake-conversation": [(0.0, 6758, 500, 0), (0.0, 7322, 490, 512), (0.0, 7236, 794, 512)],
    "mooncake-synthetic": [(0.0, 40160, 6, 0), (0.0, 36640, 4, 0)],
}
COUNTS = {
    "azure-conversation": (19366, 3501.721937),
    "azure-code": (8819, 3435.948056),
    "mooncake-conversation": (12031, 3536.999),
    "mooncake-synthetic": (3993, 1022.025),
}


@pytest.mark.parametrize("name", COUNTS)
def test_recorded_requests_are_all_there(name: str) -> None:
    trace = load(name)
    assert (len(trace), trace.duration_s) == COUNTS[name]
    assert rows(trace, len(FIRST[name])) == FIRST[name]
    assert trace.name == name
    assert (trace.cached_tokens <= trace.prompt_tokens).all()


@collected
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("azure_llm_2023_conv.csv.gz", "azure-conversation"),
        ("azure_llm_2023_code.csv.gz", "azure-code"),
        ("mooncake_conversation.jsonl.gz", "mooncake-conversation"),
        ("mooncake_synthetic.jsonl.gz", "mooncake-synthetic"),
        ("lmcache_agent_calls.csv.gz", "agent-calls"),
    ],
)
def test_collected_files_are_what_ships(file: str, name: str) -> None:
    from_file, from_name = load(str(SHARED / file)), load(name)
    assert digest(from_file) == digest(from_name)
    assert np.array_equal(from_file.at_s, from_name.at_s)
    assert np.array_equal(from_file.cached_tokens, from_name.cached_tokens)


@collected
@pytest.mark.parametrize(("model", "clients", "requests"), [("deepseek-r1", 73, 1383669), ("mm-image", 35, 818610)])
def test_collected_rates_give_each_window_its_count(model: str, clients: int, requests: int) -> None:
    trace = load(str(SHARED / f"servegen_{model}_rates.csv.gz"))
    assert (len(trace.tenants), len(trace)) == (clients, requests)


@collected
@pytest.mark.parametrize(
    ("model", "requests"), [("m-large", 236_892_825), ("m-mid", 2_163_000_000), ("m-small", 1_420_558_773)]
)
def test_a_share_of_two_weeks_of_rates(model: str, requests: int) -> None:
    trace = load(str(SHARED / f"servegen_{model}_rates.csv.gz"), scale=0.0001)
    assert 1_200_000 < trace.duration_s <= 1_209_600
    assert len(trace) == pytest.approx(requests / 10_000, rel=0.02)


def test_agents_calls() -> None:
    trace = load("agent-calls")
    assert (len(trace), trace.tenants) == (1619, ("magagent", "miniswe", "taubench"))
    assert np.bincount(trace.tenant).tolist() == [746, 402, 471]
    assert rows(trace, 2) == [(0.0, 324, 387, 0), (2.701, 1004, 205, 323)]
    assert "283 of 1619 requests say 0 completion tokens; each counts as 1" in trace.notes


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith("servegen")])
def test_rates_have_a_day_of_requests(name: str) -> None:
    trace = load(name, scale=0.1)
    said = shipped()[name]
    assert len(trace) == pytest.approx(said.requests / 10, rel=0.02)
    assert 86_000 < trace.duration_s <= 86_400
    means = {"deepseek-r1": (1268, 1527), "m-large": (914, 155), "m-mid": (307, 50.8), "m-small": (120, 14.9)}
    prompt, completion = means[name.removeprefix("servegen-")]
    assert trace.prompt_tokens.mean() == pytest.approx(prompt, rel=0.05), "of the recorded mean"
    assert trace.completion_tokens.mean() == pytest.approx(completion, rel=0.05)


def test_all_of_them_are_attributed_and_small() -> None:
    data = next(iter(shipped().values())).path.parent
    attribution = (data / "ATTRIBUTION.md").read_text()
    for name, each in shipped().items():
        assert f"\n| {name} | " in attribution
        assert each.source in attribution
        assert f"{each.source}, {each.licence}" in load(name, limit_s=60, scale=0.1 if each.share < 1 else 1).notes[0]
    assert {each.licence for each in shipped().values()} == {"Apache-2.0", "CC-BY-4.0"}
    assert sum(file.stat().st_size for file in data.iterdir()) < 1_500_000


def test_the_page_names_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulate" / "traces.md").read_text()
    for name, each in shipped().items():
        assert f"| `{name}` | {each.requests:,} |" in page
