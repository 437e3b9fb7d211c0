"""Encodings are those that RFC 9669 gives and ``llvm-objdump`` shows, on machines of little endian."""

from __future__ import annotations

import sys

import pytest

from enxame.network.shortcuts.instructions import BYTE, DOUBLE, HALF, R0, R1, R2, R6, R7, R10, WORD, Assembler, Reg

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="written down for little endian")


def code(*, of: object) -> str:
    assembler = Assembler()
    of(assembler)  # type: ignore[operator]
    return assembler.encode().hex()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda a: a.compute(R6, "=", Reg(R1)), "bf16000000000000"),
        (lambda a: a.compute(R0, "=", -1), "b7000000ffffffff"),
        (lambda a: a.compute(R2, "+", -40), "07020000d8ffffff"),
        (lambda a: a.compute(R1, ">>", 16), "7701000010000000"),
        (lambda a: a.compute(R1, "^", 0xFFFF), "a7010000ffff0000"),
        (lambda a: a.load(WORD, R2, R6, 16), "6162100000000000"),
        (lambda a: a.load(HALF, R1, R7, 20), "6971140000000000"),
        (lambda a: a.load(BYTE, R1, R7, 14), "71710e0000000000"),
        (lambda a: a.load(DOUBLE, R1, R7, 8), "7971080000000000"),
        (lambda a: a.store(WORD, R10, -4, 4), "620afcff04000000"),
        (lambda a: a.store(HALF, R7, 2, Reg(R1)), "6b17020000000000"),
        (lambda a: a.load_map(R1, 7), "18110000070000000000000000000000"),
        (lambda a: a.call(23), "8500000017000000"),
        (lambda a: a.leave(), "9500000000000000"),
    ],
)
def test_instructions_are_encoded_as_the_standard_has_them(make: object, expected: str) -> None:
    assert code(of=make) == expected


def test_jumps_lead_forwards_and_backwards_to_their_labels() -> None:
    assembler = Assembler()
    assembler.label("start")
    assembler.jump("end", R1, "==", 8)
    assembler.jump("start", R1, "<=", Reg(R2))
    assembler.jump("end")
    assembler.label("end")
    assembler.leave()
    assert assembler.encode().hex() == "1501020008000000" + "bd21feff00000000" + "0500000000000000" + "9500000000000000"


def test_a_jump_over_a_map_counts_both_of_its_words() -> None:
    assembler = Assembler()
    assembler.jump("end")
    assembler.load_map(R1, 3)
    assembler.label("end")
    assembler.leave()
    assert assembler.encode()[2:4] == b"\x02\x00"


def test_a_label_that_is_nowhere_or_too_far_is_told() -> None:
    assembler = Assembler()
    assembler.jump("end")
    with pytest.raises(ValueError, match="no instruction has the label 'end'"):
        assembler.encode()
    for _ in range(1 << 15):
        assembler.leave()
    assembler.label("end")
    with pytest.raises(ValueError, match="'end' is 32768 instructions away: too far to jump"):
        assembler.encode()
