"""The learning rate of each step, and AdamW with moments that can be put back."""

import pytest

torch = pytest.importorskip("torch")

from stoker.spec.run import Optimizer  # noqa: E402
from stoker.train.gradients import cut  # noqa: E402
from stoker.train.optimizer import Adam, rate_at  # noqa: E402

pytestmark = pytest.mark.torch


def rates(**wanted: object) -> list[float]:
    said = Optimizer(learning_rate=1.0, warmup=0.25, least_rate=0.1, **wanted)
    return [round(rate_at(said, step, 8), 4) for step in range(8)]


def test_it_rises_in_a_line_and_falls_as_a_cosine() -> None:
    assert rates() == [0.5, 1.0, 1.0, 0.9141, 0.6891, 0.4109, 0.1859, 0.1]


def test_or_in_a_line_or_not_at_all() -> None:
    assert rates(schedule="linear") == [0.5, 1.0, 1.0, 0.82, 0.64, 0.46, 0.28, 0.1]
    assert rates(schedule="constant") == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_a_run_of_one_step_has_a_rate() -> None:
    assert rate_at(Optimizer(learning_rate=2.0, warmup=0.0), 0, 1) == 2.0


def parameters() -> dict[str, torch.nn.Parameter]:
    made = torch.Generator().manual_seed(1)
    return {"w": torch.nn.Parameter(torch.randn(4, 3, generator=made)), "b": torch.nn.Parameter(torch.ones(3))}


def give(named: dict[str, torch.nn.Parameter], seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    for each in named.values():
        each.grad = torch.randn(each.shape, generator=made)


def test_steps_go_on_to_the_bit_from_moments_that_were_put_back() -> None:
    wanted = Optimizer(weight_decay=0.1)
    whole, first = parameters(), parameters()
    adam, before = Adam(wanted, whole), Adam(wanted, first)
    for step in range(6):
        give(whole, step)
        adam.step(1e-2)
    for step in range(3):
        give(first, step)
        before.step(1e-2)
    second = {name: torch.nn.Parameter(each.detach().clone()) for name, each in first.items()}
    after = Adam(wanted, second, step=3)
    for name, pair in before.moments.items():
        for mine, theirs in zip(after.moments[name], pair, strict=True):
            mine.copy_(theirs)
    for step in range(3, 6):
        give(second, step)
        after.step(1e-2)
    assert all(torch.equal(second[name], whole[name]) for name in whole)


def test_matrices_decay_and_vectors_do_not() -> None:
    named = parameters()
    adam = Adam(Optimizer(weight_decay=0.5), named)
    before = {name: each.detach().clone() for name, each in named.items()}
    for each in named.values():
        each.grad = torch.zeros_like(each)
    adam.step(0.1)
    assert torch.allclose(named["w"], before["w"] * 0.95)
    assert torch.equal(named["b"], before["b"])


def test_it_is_torchs_own_to_the_bit() -> None:
    wanted = Optimizer(weight_decay=0.1)
    ours, theirs = parameters(), parameters()
    groups = [{"params": [theirs["w"]], "weight_decay": 0.1}, {"params": [theirs["b"]], "weight_decay": 0.0}]
    adam, torchs = Adam(wanted, ours), torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
    for step in range(20):
        give(ours, step)
        give(theirs, step)
        adam.step(rate_at(wanted, step, 20))
        for group in torchs.param_groups:
            group["lr"] = rate_at(wanted, step, 20)
        torchs.step()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_gradients_that_are_too_long_are_cut_on_the_way_as_torch_cuts_them() -> None:
    ours, theirs = parameters(), parameters()
    adam, torchs = Adam(Optimizer(beta2=0.999), ours), torch.optim.AdamW(theirs.values(), weight_decay=0.0, fused=True)
    for step in range(5):
        give(ours, step)
        give(theirs, step)
        norm = float(torch.nn.utils.get_total_norm([each.grad for each in ours.values()]))
        assert norm > 0.5
        adam.step(1e-3, times=cut(norm, 0.5))
        torch.nn.utils.clip_grad_norm_(theirs.values(), 0.5)
        torchs.step()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)
        assert not torch.equal(ours[name], parameters()[name])
