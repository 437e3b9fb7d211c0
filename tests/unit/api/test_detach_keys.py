"""The detach keys: how they are written and how they are found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.api.detach_keys import DetachScanner, parse
from enxame.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a,x", b"\x01x"),
        ("ctrl-@,ctrl-[,ctrl-_", b"\0\x1b\x1f"),
    ],
)
def test_keys_are_written_as_dockers(text: str, keys: bytes) -> None:
    assert parse(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-A", "ctrl-ab", "shift-a", "a,,b", "é"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid detach keys"):
        parse(text)


@pytest.mark.parametrize(
    ("pieces", "passed", "left"),
    [
        ([b"abc"], b"abc", False),
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"ab\x10", b"\x11"], b"ab", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_keys_are_found_also_in_pieces(pieces: list[bytes], passed: bytes, left: bool) -> None:
    scanner = DetachScanner(b"\x10\x11")
    got = b""
    gone = False
    for piece in pieces:
        out, gone = scanner.feed(piece)
        got += out
        if gone:
            break
    assert (got, gone) == (passed, left)


@given(st.lists(st.binary(max_size=8)))
def test_without_the_keys_everything_passes_in_order(pieces: list[bytes]) -> None:
    scanner = DetachScanner(b"\x10\x11")
    whole = b"".join(pieces)
    got = b""
    for piece in pieces:
        out, left = scanner.feed(piece)
        got += out
        if left:
            assert got == whole.partition(b"\x10\x11")[0]
            return
    assert whole.startswith(got)
    assert whole[len(got) :] in (b"", b"\x10")
