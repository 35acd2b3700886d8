"""Requests read back from a ledger in either database, oldest first, without a change to it."""

from meter_builders import a_record

from stoker.meter import arrivals
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.simulate.traces import load


def test_every_request_by_when_it_began(store: Store, url: str) -> None:
    a_step = a_record(3, started_at=99.5, kind="step", model="agents")  # which is no request
    Ledger(store).append(
        [a_record(1, started_at=100.5), a_record(2, started_at=99.25, prompt_tokens=7, session=None), a_step]
    )
    assert list(arrivals.from_url(url)) == [
        {
            "started_at": [99.25, 100.5],
            "prompt_tokens": [7, 10],
            "completion_tokens": [5, 5],
            "cached_tokens": [4, 4],
            "model": ["general", "general"],
            "tenant": ["acme", "acme"],
            "session": [None, "s"],
        }
    ]
    trace = load(url)
    assert (trace.at_s.tolist(), trace.prompt_tokens.tolist()) == ([0.0, 1.25], [7, 10])


def test_more_than_one_batch(store: Store, url: str) -> None:
    records = [a_record(number, started_at=float(number)) for number in range(1, 2501)]
    Ledger(store).append(records)
    batches = list(arrivals.from_url(url, batch=1000))
    assert [len(each["started_at"]) for each in batches] == [1000, 1000, 500]
    assert [at for each in batches for at in each["started_at"]] == [float(number) for number in range(1, 2501)]
