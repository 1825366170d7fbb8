"""The asymmetric target against a literal least-squares solution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dareq_edge.errors import CheckpointError
from dareq_edge.rounding.target import corrected_target
from tolerances import CORRECTED


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(300, 24, generator=generator) @ torch.randn(24, 24, generator=generator)
    return torch.randn(7, 24, generator=generator), reference, reference + torch.randn(300, 24, generator=generator)


def moments(reference: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.T @ x / len(x), reference.T @ x / len(x)


def test_without_damping_it_is_the_least_squares_fit() -> None:
    weight, reference, x = inputs()
    target = corrected_target(weight, *moments(reference, x), damping=0)
    fit = np.linalg.lstsq(x.double().numpy(), (reference @ weight.T).double().numpy(), rcond=None)[0].T
    assert np.abs(target.numpy() - fit).max() <= CORRECTED * np.abs(fit).max()


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_damping_is_a_pull_towards_the_weight(mix: float) -> None:
    weight, reference, x = inputs()
    second, cross = (m.double() for m in moments(reference, x))
    a = 0.1 * second.diagonal().mean() * torch.eye(24)
    full = weight.double() @ (cross + a) @ torch.linalg.inv(second + a)
    want = weight + mix * (full - weight)
    got = corrected_target(weight, second.float(), cross.float(), mix=mix, damping=0.1)
    assert (got - want).abs().max() <= CORRECTED * want.abs().max()


def test_equal_streams_and_dead_channels_change_nothing() -> None:
    weight, reference, _ = inputs()
    reference[:, 3] = 0
    second, cross = moments(reference, reference)
    got = corrected_target(weight, second, cross)
    assert (got - weight).abs().max() <= CORRECTED * weight.abs().max()
    nothing = torch.zeros(24, 24)
    assert torch.equal(corrected_target(weight, nothing, nothing), weight)


def test_singular_without_damping_is_refused() -> None:
    weight, reference, _ = inputs()
    reference[:, 3] = 0
    with pytest.raises(CheckpointError, match="inputs of fc1 is singular"):
        corrected_target(weight, *moments(reference, reference), damping=0, name="fc1")
    broken = torch.full((24, 24), torch.nan)
    with pytest.raises(CheckpointError, match="not finite"):
        corrected_target(weight, broken, broken)
