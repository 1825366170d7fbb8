from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dareq_edge.errors import SpecError
from dareq_runtime import OnnxModel, load
from dareq_runtime.decoder import Lane
from dareq_runtime.lookup import Lookup
from tiny_decoder import Shape, TinyDecoder


def filled(text: str) -> Lookup:
    lookup = Lookup()
    for letter in text:
        lookup.add(ord(letter))
    return lookup


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("", ""),
        ("ab", ""),
        ("abcab", "cab"),
        ("abcXabcYab", "cYa"),  # the last occurrence counts
        ("xbcP abcQ abc", "Q a"),  # three letters before two
        ("zbcP abc", "P a"),
        ("aaaa", "a"),  # overlaps itself: the earlier end is one back
    ],
)
def test_what_is_guessed(text: str, guess: str) -> None:
    assert "".join(map(chr, filled(text).guess(3))) == guess


def test_a_guess_may_be_cut_to_nothing() -> None:
    assert filled("abcab").guess(0) == []


@pytest.fixture(scope="module")
def small_words(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    """A model of 8 words, whose greedy text repeats itself and its prompt."""
    shape = Shape(vocab=8, hidden=32, heads=2, kv_heads=1, ffn=32, layers=1, context=160, seed=2)
    return load(TinyDecoder(shape).write(tmp_path_factory.mktemp("lookup") / "m"), compute="fp32", threads=1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("new", [1, 2, 3, 5, 100])
def test_tokens_are_those_of_greedy_decoding(small_words: OnnxModel, seed: int, new: int) -> None:
    prompt = np.random.default_rng(seed).integers(0, 8, 1 + 7 * seed)
    seen: list[int] = []
    options = {"max_new_tokens": new, "stop_ids": []}
    plain = small_words.generate(prompt, **options)
    found = small_words.generate(prompt, lookup=True, on_token=lambda _, t, __: seen.append(t), **options)
    assert found == plain
    assert seen == list(plain.ids)


def test_tokens_of_a_model_that_does_not_repeat_itself(either: OnnxModel) -> None:
    prompt = np.tile(np.random.default_rng(1).integers(4, 96, 5), 3)
    plain = either.generate(prompt, max_new_tokens=33, stop_ids=[])
    assert either.generate(prompt, max_new_tokens=33, stop_ids=[], lookup=True) == plain


def test_it_stops_inside_a_guess(small_words: OnnxModel) -> None:
    prompt = np.random.default_rng(3).integers(0, 8, 20)
    free = small_words.generate(prompt, max_new_tokens=60, stop_ids=[])
    for stop in set(free.ids):
        plain = small_words.generate(prompt, max_new_tokens=60, stop_ids=[stop])
        assert small_words.generate(prompt, max_new_tokens=60, stop_ids=[stop], lookup=True) == plain


def test_the_whole_context_can_be_used(small_words: OnnxModel) -> None:
    prompt = np.tile([1, 2, 3], 20)
    plain = small_words.generate(prompt, max_new_tokens=100, stop_ids=[])
    assert small_words.generate(prompt, max_new_tokens=100, stop_ids=[], lookup=True) == plain


def test_it_takes_fewer_passes_than_tokens(small_words: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    passes, run = [], Lane.run

    def spy(lane: Lane, *args: object, **more: object) -> object:
        passes.append(lane)
        return run(lane, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Lane, "run", spy)
    found = small_words.generate([1, 2, 3], max_new_tokens=100, stop_ids=[], lookup=True)
    assert len(found.ids) == 100
    assert 1 < len(passes) < 50


def test_lookup_is_greedy(tmp_path: Path, small_words: OnnxModel) -> None:
    with pytest.raises(SpecError, match="lookup is greedy"):
        small_words.generate([1, 2], lookup=True, temperature=0.5)
