"""The project's bar on coded size, for matrices of a million weights; and what other regions cost."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import tolerances
from dareq_edge.container import coded_bytes

LAMBDAS = {2: 58.0, 3: 14.5, 4: 3.9}


def weights(name: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(0, 0.3, (1024, 1)))
    drawn = {"gauss": rng.standard_normal, "laplace": lambda size: rng.laplace(size=size)}[name]((1024, 1024))
    return (drawn * spread).astype(np.float32)


def entropy(codes: NDArray[np.uint8]) -> float:
    shares = np.bincount(codes.reshape(-1), minlength=256) / codes.size
    return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())


def bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize("bits", LAMBDAS)
@pytest.mark.parametrize("name", ["gauss", "laplace"])
def test_codes_and_scales_cost_their_entropy(name: str, bits: int) -> None:
    w = weights(name)
    means = np.abs(w).mean(axis=1, keepdims=True)
    scales = bf16(np.sqrt(LAMBDAS[bits] / 32 * means * means.mean()))
    codes = (np.clip(np.rint(w / scales), -128, 127) + 128).astype(np.uint8)
    floor = entropy(codes)
    assert abs(floor - bits) < 0.12
    coded = coded_bytes(codes, np.ascontiguousarray(scales.repeat(4, axis=1)), 8) * 8 / codes.size
    assert floor < coded < floor * (1 + tolerances.CONTAINER_OVERHEAD)


def test_packed_int4_costs_its_entropy() -> None:
    w = weights("gauss").reshape(-1, 64)
    scales = bf16(np.abs(w).max(axis=1, keepdims=True) / np.float32(7))
    codes = (np.clip(np.rint(w / scales), -8, 7) + 8).astype(np.uint8).reshape(1024, 1024)
    floor = entropy(codes) + 16 / 64
    assert coded_bytes(codes, scales.reshape(1024, 16), 4) * 8 / codes.size < floor


def test_replication_of_scales_is_free() -> None:
    codes = np.full((256, 1024), 128, np.uint8)
    scales = np.random.default_rng(1).random((256, 1), np.float32)
    assert coded_bytes(codes, scales, 8) == coded_bytes(codes, np.ascontiguousarray(scales.repeat(8, axis=1)), 8)


def test_incompressible_codes_are_stored() -> None:
    codes = np.random.default_rng(2).integers(0, 256, (512, 512), dtype=np.uint8)
    assert coded_bytes(codes, np.empty((512, 0), np.float32), 8) == codes.size + 20
