"""Sizes as people write them, to the byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import OPTConfig

from dareq_edge.allocation.bytes import Size, format_bytes, parse_bytes, parse_size
from dareq_edge.allocation.memory import PER_FILE_BYTE, PROCESS_BYTES, cache_bytes, file_bytes
from dareq_edge.errors import AllocationError, SpecError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("60MB", 60_000_000),
        ("57.2 MiB", 59_978_547),  # 59978547.2
        ("1.5GB", 1_500_000_000),
        ("62914560", 62_914_560),
        ("62,914,560 B", 62_914_560),
        ("62_914_560b", 62_914_560),
        (" 512 kib ", 524_288),
        ("3kB", 3_000),
        (".5 GiB", 536_870_912),
        ("0.3GB", 300_000_000),  # no binary fraction
    ],
)
def test_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "60 M", "sixty MB", "-5MB", "60MB!", "1e9", "60 MBit", "1.2.3MB", "6 MB MB"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SpecError, match=r"write a number and one of B, kB, MB, GB, KiB, MiB, GiB, e\.g\. 60MB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["0", "0.4", "0 MB"])
def test_nothing_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="less than one byte"):
        parse_bytes(text)


@given(st.integers(1, 2**45))
def test_plain_bytes_come_back(size: int) -> None:
    assert parse_bytes(str(size)) == size
    assert parse_bytes(f"{size:,} B") == size


def test_messages() -> None:
    assert format_bytes(999) == "999 bytes"
    assert format_bytes(1_000) == "1.00 kB (1,000 bytes)"
    assert format_bytes(62_914_560) == "62.91 MB (62,914,560 bytes)"
    assert format_bytes(1_500_000_000) == "1.50 GB (1,500,000,000 bytes)"


def test_sizes_of_three_kinds() -> None:
    assert parse_size("60MB") == Size(60_000_000)
    assert parse_size(" 256 MB-ram ") == parse_size("256MB RAM") == Size(256_000_000, memory=True)
    assert parse_size("4.5bpw").of(1001) == 563
    assert parse_size("60MB").of(1001) == 60_000_000
    for wrong in ("0bpw", "33 bpw"):
        with pytest.raises(SpecError, match="more than 0 and at most 32"):
            parse_size(wrong)
    with pytest.raises(SpecError, match=r"write a number and one of"):
        parse_size("60 M-ram")
    with pytest.raises(SpecError, match=r"e\.g\. 60MB, 4\.5bpw or 256MB-ram$"):
        parse_size("60MB-rom")


def test_memory_of_a_device() -> None:
    config = OPTConfig(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=2048)
    cache = 2 * 12 * 768 * 1024 * 4
    assert cache_bytes(config, 1024) == cache == 4 * cache_bytes(config, 1024, cache_bits=8)
    size = file_bytes(300_000_000, config)
    assert PROCESS_BYTES + cache + PER_FILE_BYTE * size == pytest.approx(300e6, abs=2)
    assert file_bytes(300_000_000, config, cache_bits=8) > size
    with pytest.raises(AllocationError, match=r"100 MB of memory leave nothing.*of 1024 tokens 75\.5 MB"):
        file_bytes(100_000_000, config)
