from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dareq_edge.errors import DataError, SpecError
from dareq_edge.plugins import available
from dareq_runtime.tokens import TokenSet
from dareq_runtime.windows import PLUGINS, describe, make_protocol


def cut(name: str, tokens: TokenSet, context: int = 100, **options: int) -> list[tuple[list[int], list[int]]]:
    """(window, predicted tokens) pairs."""
    found = make_protocol(name, **options).resolved(context).windows(tokens)
    return [(w.ids.tolist(), w.ids[w.first :].tolist()) for w in found]


def text(n: int) -> TokenSet:
    return TokenSet((np.arange(n),), "text")


def lines(*sizes: int) -> TokenSet:
    return TokenSet(tuple(np.arange(n) for n in sizes), "lines", "lines")


def test_gptq_golden() -> None:
    assert cut("gptq", text(10), window=4) == [([0, 1, 2, 3], [1, 2, 3]), ([4, 5, 6, 7], [5, 6, 7])]


def test_gptq_keeps_a_full_last_window() -> None:
    assert [w for w, _ in cut("gptq", text(8), window=4)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_strided_golden() -> None:
    assert cut("strided", text(9), window=4, stride=2) == [
        ([0, 1, 2, 3], [1, 2, 3]),
        ([2, 3, 4, 5], [4, 5]),
        ([4, 5, 6, 7], [6, 7]),
        ([6, 7, 8], [8]),
    ]


def test_lines_golden() -> None:
    assert cut("lines", lines(6, 2, 1), window=4) == [([0, 1, 2, 3], [1, 2, 3]), ([0, 1], [1])]


@given(st.integers(2, 200), st.integers(2, 40), st.data())
def test_strided_predicts_each_token_once_with_context(n: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window - 1))
    cuts = make_protocol("strided", window=window, stride=stride).resolved(1000).windows(text(n))
    assert [t for w in cuts for t in w.ids[w.first :]] == list(range(1, n))
    assert all(len(w.ids) <= window for w in cuts)
    assert all(w.first >= window - stride for w in cuts[1:])
    assert all(np.array_equal(w.ids, np.arange(w.start, w.start + len(w.ids))) for w in cuts)


@pytest.mark.parametrize(
    ("name", "context", "expected"),
    [
        ("gptq", 4096, "gptq(window=2048)"),
        ("gptq", 512, "gptq(window=512)"),
        ("strided", 4096, "strided(window=2048, stride=1024)"),
        ("lines", 4096, "lines(window=512)"),
        ("lines", 128, "lines(window=128)"),
    ],
)
def test_defaults(name: str, context: int, expected: str) -> None:
    assert describe(make_protocol(name).resolved(context)) == expected


@pytest.mark.parametrize("name", available(PLUGINS))
@pytest.mark.parametrize("context", [8, 64])
def test_windows_are_parts_of_the_text_that_fit_the_context(name: str, context: int) -> None:
    protocol = make_protocol(name).resolved(context)
    assert dataclasses.is_dataclass(protocol)
    assert type(protocol).__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert protocol.resolved(context) == protocol
    tokens = text(200) if protocol.unit == "text" else lines(200, 1, 2, 30)
    found = protocol.windows(tokens)
    assert found
    for w in found:
        assert 1 <= w.first < len(w.ids) <= context
        assert np.array_equal(w.ids, tokens.sequences[w.sequence][w.start : w.start + len(w.ids)])
    predicted = [(w.sequence, w.start + i) for w in found for i in range(w.first, len(w.ids))]
    assert len(predicted) == len(set(predicted)), "a token is predicted once"


@pytest.mark.parametrize("name", available(PLUGINS))
def test_window_beyond_the_context_is_an_error(name: str) -> None:
    with pytest.raises(SpecError, match="window is 65 but the model's context is 64"):
        make_protocol(name, window=65).resolved(64)


@pytest.mark.parametrize("name", available(PLUGINS))
def test_protocol_refuses_the_other_unit(name: str) -> None:
    protocol = make_protocol(name).resolved(4)
    with pytest.raises(DataError, match="line"):
        protocol.windows(lines(9, 9) if protocol.unit == "text" else text(9))


def test_option_errors() -> None:
    with pytest.raises(SpecError, match="did you mean 'strided'"):
        make_protocol("stride")
    with pytest.raises(SpecError, match="'gptq' has no stride"):
        make_protocol("gptq", stride=3)
    with pytest.raises(SpecError, match="stride is 8"):
        make_protocol("strided", window=8, stride=8).resolved(16)
    with pytest.raises(SpecError, match="at least 2"):
        make_protocol("gptq", window=1).resolved(16)


def test_nothing_to_predict() -> None:
    with pytest.raises(DataError, match="less than one window"):
        cut("gptq", text(7), window=8)
    with pytest.raises(DataError, match="at least 2"):
        cut("strided", text(1), window=8)
    with pytest.raises(DataError, match="no line with 2 tokens"):
        cut("lines", lines(1, 1), window=8)
