"""A run's numbers as Prometheus reads them."""

import math
import urllib.request

import pytest

from stoker.base.errors import InvalidInput
from stoker.telemetry.metrics import read
from stoker.train.live import Seen
from stoker.train.metrics import WHERE, exposition

SEEN = Seen(
    step=3,
    steps=10,
    loss=2.5,
    rate=0.1,
    norm=1.0,
    tokens_per_s=100.0,
    goodput=0.75,
    lost_work_s=12.0,
    checkpoint_age_s=40.0,
    usd=None,
    hours=1.0,
    left_s=5.0,
    at=0.0,
)


def test_they_are_those_of_the_last_step() -> None:
    shown = exposition({WHERE: "127.0.0.1:0"}, nodes=2)
    assert shown is not None
    shown.step(SEEN)
    with urllib.request.urlopen(f"{shown.url}/metrics", timeout=10) as said:
        text = said.read().decode()
    shown.close("completed")
    names = [
        line.split()[2]
        for line in text.splitlines()
        if line.startswith("# TYPE stoker_") and not line.endswith("total")
    ]
    found = read(text, *names)
    assert math.isnan(found.pop("stoker_train_usd"))
    assert found == {
        "stoker_train_step": 3,
        "stoker_train_steps": 10,
        "stoker_train_loss": 2.5,
        "stoker_train_tokens_per_second": 100,
        "stoker_train_goodput_ratio": 0.75,
        "stoker_train_lost_work_seconds": 12,
        "stoker_train_checkpoint_age_seconds": 40,
        "stoker_train_nodes": 2,
    }


def test_it_is_off_unless_a_place_is_said() -> None:
    assert exposition({}, nodes=1) is None
    with pytest.raises(InvalidInput, match="'9102'; it is HOST:PORT"):
        exposition({WHERE: "9102"}, nodes=1)
