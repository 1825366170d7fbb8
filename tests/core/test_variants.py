"""How recipes are written on the command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dareq_edge.comparison.variants import Variant, parse_variant, parse_variants
from dareq_edge.errors import SpecError

WORD = st.from_regex(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", fullmatch=True)
GROUPS = st.sampled_from([None, 16, 32, 64, 128, 256])
BITS = st.integers(2, 8)
FIELD = st.from_regex(r"[a-z]+(_[a-z]+)*", fullmatch=True).filter(lambda x: x not in ("tier", "seed", "calibration"))
VALUE = st.from_regex(r"[A-Za-z0-9_.-]+", fullmatch=True)
SETTINGS = st.lists(st.tuples(FIELD, VALUE), max_size=3, unique_by=lambda pair: pair[0]).map(tuple)
VARIANTS = st.builds(Variant, WORD, st.none() | WORD, GROUPS, BITS, SETTINGS)


@given(VARIANTS, GROUPS, BITS)
def test_a_label_reads_back_whatever_the_defaults_are(variant: Variant, group: int | None, bits: int) -> None:
    assert parse_variant(variant.label, group_size=group, bits=bits) == variant


@given(WORD, st.none() | WORD, GROUPS, BITS)
def test_what_is_left_out_is_the_default(name: str, tier: str | None, group: int | None, bits: int) -> None:
    text = name if tier is None else f"{name}:{tier}"
    assert parse_variant(text, group_size=group, bits=bits) == Variant(name, tier, group, bits)


@given(st.lists(VARIANTS, min_size=1, max_size=5, unique=True))
def test_a_list_keeps_its_order(variants: list[Variant]) -> None:
    assert parse_variants(", ".join(v.label for v in variants), group_size=None, bits=4) == variants


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        variant = parse_variant(text, group_size=None, bits=4)
    except SpecError:
        return
    assert parse_variant(variant.label, group_size=64, bits=8) == variant


def test_every_part() -> None:
    assert parse_variant("dareq:weights@64/3", group_size=None, bits=4) == Variant("dareq", "weights", 64, 3)
    assert parse_variant("rtn@channel", group_size=64, bits=4) == Variant("rtn", None, None, 4)
    found = parse_variant("dareq:self+tuning=0+refit=false+compute=float32+damping=1e-2@32", group_size=None, bits=4)
    assert found.values == {"tier": "self", "tuning": 0, "refit": False, "compute": "float32", "damping": 0.01}
    assert found.family == "dareq:self+tuning=0+refit=false+compute=float32+damping=1e-2"
    assert parse_variant("rtn", group_size=None, bits=4).values == {}


def test_points_on_a_curve() -> None:
    found = parse_variants(
        "entquant+target_bits=3+codes=float8,entquant+codes=float8+lam=4,rtn@64", group_size=None, bits=8
    )
    assert [v.curve for v in found] == ["entquant+codes=float8", "entquant+codes=float8", "rtn"]
    assert [v.point for v in found] == ["target_bits=3", "lam=4", "@64/8"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no recipe"),
        (" , ", "names no recipe"),
        ("rtn@", "'rtn@' is not a recipe"),
        ("rtn/3@64", "is not a recipe"),
        ("Rtn", "is not a recipe"),
        ("rtn@48", "group_size is 48"),
        ("rtn@row", "group 'row'; use channel, 16"),
        ("rtn/9", "bits is 9"),
        ("dareq+tuning", "is not a recipe"),
        ("dareq@64+tuning=0", "is not a recipe"),
        ("dareq+seed=1", "sets seed with a plus; use --seed"),
        ("dareq+tier=self", "sets tier with a plus; use NAME:TIER"),
        ("dareq+tuning=0+tuning=1", "sets tuning twice"),
        ("rtn,mse,rtn@channel/4", "names rtn@channel/4 twice"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse_variants(text, group_size=None, bits=4)
