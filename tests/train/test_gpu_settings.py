"""What is set up for a GPU, as far as that shows without one."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from stoker.train import state, world  # noqa: E402

pytestmark = pytest.mark.torch

REFUSED, DONE = "cudaErrorMemoryAllocation", "cudaSuccess"


class Cudart:
    """CUDA's pinning of memory; `said` is what it answers."""

    cudaError = SimpleNamespace(success=DONE)  # noqa: N815

    def __init__(self, said: str = DONE) -> None:
        self.said = said
        self.pinned: dict[int, int] = {}

    def cudaHostRegister(self, address: int, size: int, flags: int) -> str:  # noqa: N802 - CUDA's name
        self.pinned[address] = size
        return self.said

    def cudaHostUnregister(self, address: int) -> str:  # noqa: N802
        del self.pinned[address]
        return DONE


@pytest.fixture
def numerics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """They are the process's, and are put back."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.mark.usefixtures("numerics")
def test_the_same_bits_are_not_paid_for_with_memory_that_is_filled() -> None:
    world.settle_numerics(deterministic=True, threads=1, gpus=1)

    assert torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory is False


def test_as_much_is_pinned_as_was_asked_for_and_as_long_as_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cudart = Cudart()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)

    buffer = state._pinned(1025)

    assert cudart.pinned == {buffer.data_ptr(): 4100}
    del buffer
    assert cudart.pinned == {}


def test_memory_that_cannot_be_pinned_is_said_and_the_next_call_is_not_told_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CUDA keeps an error until a kernel is launched, which then fails of it."""
    told = []

    def launched(*_: object, **__: object) -> None:
        told.append("CUDA error: out of memory")
        raise RuntimeError(told[-1])

    monkeypatch.setattr(torch.cuda, "cudart", lambda: Cudart(REFUSED))
    monkeypatch.setattr(torch, "ones", launched)

    with pytest.raises(RuntimeError, match="cannot be pinned"):
        state._pinned(4)

    assert told == ["CUDA error: out of memory"]
