"""Gradients of passes and processes, added up in an order that does not depend on how many there are."""

import threading
from dataclasses import dataclass, field

import pytest

torch = pytest.importorskip("torch")

from stoker.base.errors import InvalidInput  # noqa: E402
from stoker.train.gradients import Alone, Canonical, Flat, cut  # noqa: E402
from stoker.train.world import World  # noqa: E402

pytestmark = pytest.mark.torch

PASSES = 8
SIZE = 100


@dataclass
class Meeting:
    """Processes as threads: what they swap lies on a table."""

    size: int
    table: dict[tuple[int, int], object] = field(default_factory=dict)
    gate: threading.Barrier | None = None

    def __post_init__(self) -> None:
        self.gate = threading.Barrier(self.size)


@dataclass
class Seat:
    """As `World`, for one of them."""

    rank: int
    meeting: Meeting
    device: object = torch.device("cpu")

    @property
    def size(self) -> int:
        return self.meeting.size

    def swap(self, mine: object, other: int) -> object:
        self.meeting.table[self.rank, other] = mine.clone()
        self.meeting.gate.wait()
        theirs = self.meeting.table[other, self.rank]
        self.meeting.gate.wait()
        return theirs


def gradient_of(number: int) -> object:
    """Of a pass; sums of these depend on their order in the last bits."""
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(number)) * 10 ** (number % 3)


def summed(world: int, passes: int = PASSES) -> list[object]:
    """What each process of so many comes to, with its block of the passes."""
    meeting, found = Meeting(world), [None] * world

    def process(rank: int) -> None:
        parameter = torch.nn.Parameter(torch.zeros(SIZE))
        sums = Canonical([parameter], Seat(rank, meeting), PASSES)
        sums.begin()
        for number in range(rank * PASSES // world, (rank + 1) * PASSES // world):
            if number < passes:
                parameter.grad += gradient_of(number)
                sums.passed()
        sums.finish()
        found[rank] = parameter.grad.clone()

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("passes", range(1, PASSES + 1))
def test_one_two_four_and_eight_processes_come_to_the_same_bits(passes: int) -> None:
    (alone,) = summed(1, passes)
    for world in (2, 4, 8):
        assert all(torch.equal(each, alone) for each in summed(world, passes)), world


def test_the_order_of_sums_does_matter_to_these_numbers() -> None:
    """Otherwise the test above would hold of any order."""
    in_a_row = torch.zeros(SIZE)
    for number in range(PASSES):
        in_a_row += gradient_of(number)
    (tree,) = summed(1)
    assert not torch.equal(in_a_row, tree)
    assert torch.allclose(in_a_row, tree, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("world", "passes"), [(3, 9), (2, 6), (4, 6)])
def test_what_does_not_divide_into_powers_of_two_is_refused(world: int, passes: int) -> None:
    with pytest.raises(InvalidInput, match=f"{passes} passes .* on {world} processes"):
        Canonical([torch.nn.Parameter(torch.zeros(2))], Seat(0, Meeting(world)), passes)


def test_how_long_a_gradient_is_whoever_holds_it() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1, 1))]
    for make in (Alone, lambda those: Flat(those, World({}, gpus=0))):
        gradients = make(parameters)
        gradients.begin()
        (parameters[0] @ torch.tensor([3.0, 4.0])).backward()
        (parameters[1] * 12.0).sum().backward()
        gradients.passed()
        gradients.finish()
        assert float(gradients.norm()) == 13.0
        gradients.begin()
        gradients.finish()
        assert [each.grad.flatten().tolist() for each in parameters] == [[0.0, 0.0], [0.0]]


def test_passes_of_one_process_are_added_up() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    alone = Alone([parameter])
    for _ in range(2):  # and nothing is left of the step before
        alone.begin()
        for number in (1.0, 10.0):
            (parameter * number).sum().backward()
            alone.passed()
        alone.finish()
        assert parameter.grad.tolist() == [11.0, 11.0]


@pytest.mark.parametrize(("norm", "most", "times"), [(5.0, 0.0, 1.0), (5.0, 6.0, 1.0), (3.999999, 2.0, 0.5)])
def test_a_long_gradient_is_cut_and_a_short_one_is_not(norm: float, most: float, times: float) -> None:
    assert cut(norm, most) == pytest.approx(times, rel=1e-12)
