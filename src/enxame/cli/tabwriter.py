"""Aligned columns as Go's text/tabwriter makes them (minimal width 10, padding 3): docker's tables, byte for byte."""

from collections.abc import Sequence

MIN_WIDTH = 10
PADDING = 3


def align(lines: Sequence[str], *, min_width: int = MIN_WIDTH, padding: int = PADDING) -> str:
    """Text of ``lines``, whose cells are ended by tabs, aligned.

    A column is a block of neighbouring lines that have a tab-ended cell there; what follows a line's last tab is not
    part of any column.
    """
    rows = [line.split("\t") for line in lines]
    widths: list[list[int]] = [[] for _ in rows]

    def measure(start: int, end: int, column: int) -> None:
        line = start
        while line < end:
            if len(rows[line]) - 1 <= column:
                line += 1
                continue
            block = line
            while block < end and len(rows[block]) - 1 > column:
                block += 1
            width = max(min_width, *(len(rows[i][column]) + padding for i in range(line, block)))
            if all(not rows[i][column] for i in range(line, block)):
                width = min_width
            for i in range(line, block):
                widths[i].append(width)
            measure(line, block, column + 1)
            line = block

    measure(0, len(rows), 0)
    out = []
    for row, sizes in zip(rows, widths, strict=True):
        out.append("".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=False)) + row[-1])
    return "".join(f"{line}\n" for line in out)
