"""A square per block and kind of matrix, darker for more bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dareq_edge.reporting.charts.frame import WIDTH, Words, cut, figure, label, rect
from dareq_edge.reporting.markup import Child, Markup

_LEFT, _ROW, _TOP = 92, 20, 4
_NUMBERED = 20  # columns, beyond which a square has no room for a number


def grid(
    words: Words, rows: Sequence[str], columns: int, cells: Mapping[tuple[str, int], int], *, numbers: Child = None
) -> Markup:
    """Draw bits.

    Args:
        words: Title and description.
        rows: Kinds of matrices, from top to bottom.
        columns: Blocks.
        cells: Bits by (kind, block); what is missing stays empty.
        numbers: A table of the same.
    """
    width = (WIDTH - _LEFT) / max(columns, 1)
    shapes: list[Child] = []
    for i, row in enumerate(rows):
        y = _TOP + i * _ROW
        shapes.append(label(_LEFT - 6, y + 14, cut(row, 15), "end", "tick"))
        for j in range(columns):
            if (row, j) in cells:
                bits = cells[row, j]
                shapes.append(rect(_LEFT + j * width + 0.5, y + 0.5, width - 1, _ROW - 1, f"cell b{bits}"))
                if columns <= _NUMBERED:
                    kind = "tick on" if bits > 4 else "tick"
                    shapes.append(label(_LEFT + (j + 0.5) * width, y + 14, str(bits), "middle", kind))
    bottom = _TOP + len(rows) * _ROW
    shapes += [
        label(_LEFT + (j + 0.5) * width, bottom + 13, str(j), "middle", "tick")
        for j in range(0, columns, max(1, columns // 10))
    ]
    return figure(words, bottom + 18, *shapes, numbers=numbers)
