"""eBPF instructions, with labels for jumps. Pure.

The encoding is RFC 9669's. There is no compiler: the one program that we have is short, and a compiler would weigh
hundreds of megabytes on every machine.
"""

from __future__ import annotations

import struct
from typing import Final

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)

#: Sizes of loads and stores.
BYTE: Final = 0x10
HALF: Final = 0x08
WORD: Final = 0x00
DOUBLE: Final = 0x18

_INSTRUCTION = struct.Struct("=BBhi")
_LOAD: Final = 0x61
_STORE_IMMEDIATE: Final = 0x62
_STORE: Final = 0x63
_REGISTER: Final = 0x08
_ALU: Final = 0x07
_JUMP: Final = 0x05
_CALL: Final = 0x85
_EXIT: Final = 0x95
_LOAD_DOUBLE: Final = 0x18
_MAP_FD: Final = 1
_FARTHEST: Final = 1 << 15

_OPERATIONS: Final = {"+": 0x00, "-": 0x10, "&": 0x50, ">>": 0x70, "^": 0xA0, "=": 0xB0}
_CONDITIONS: Final = {"": 0x00, "==": 0x10, ">": 0x20, "&": 0x40, "!=": 0x50, "<=": 0xB0}


class Reg(int):
    """A register as the second operand; a plain number is an immediate."""


class Assembler:
    """Instructions in order. ``size`` is one of BYTE, HALF, WORD and DOUBLE; values are of the machine's byte order."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int, int, str]] = []
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        """The next instruction is where jumps to ``name`` lead."""
        self._labels[name] = len(self._code)

    def load(self, size: int, to: int, base: int, offset: int) -> None:
        """``to = *(base + offset)``"""
        self._add(_LOAD | size, to, base, offset)

    def store(self, size: int, base: int, offset: int, value: int) -> None:
        """``*(base + offset) = value``"""
        if isinstance(value, Reg):
            self._add(_STORE | size, base, value, offset)
        else:
            self._add(_STORE_IMMEDIATE | size, base, 0, offset, immediate=value)

    def compute(self, to: int, operation: str, value: int) -> None:
        """``to = to operation value`` with 64 bits: ``+ - & >> ^``, and ``=``."""
        self._binary(_ALU | _OPERATIONS[operation], to, value)

    def jump(self, label: str, register: int = R0, condition: str = "", value: int = 0) -> None:
        """Go on at the label, always or where ``register condition value``: ``== != > <=`` unsigned, ``&`` bits."""
        self._binary(_JUMP | _CONDITIONS[condition], register, value, label)

    def load_map(self, to: int, descriptor: int) -> None:
        """``to`` becomes the map's handle."""
        self._add(_LOAD_DOUBLE, to, _MAP_FD, immediate=descriptor)
        self._add(0, 0, 0)

    def call(self, helper: int) -> None:
        """A helper of the kernel's, with R1 to R5; its result is in R0."""
        self._add(_CALL, immediate=helper)

    def leave(self) -> None:
        """End with R0."""
        self._add(_EXIT)

    def encode(self) -> bytes:
        """The program.

        Raises:
            ValueError: a label is nowhere, or too far from its jump.
        """
        parts: list[bytes] = []
        for position, (code, to, source, offset, immediate, label) in enumerate(self._code):
            if label and label not in self._labels:
                raise ValueError(f"no instruction has the label {label!r}")
            distance = self._labels[label] - position - 1 if label else offset
            if not -_FARTHEST <= distance < _FARTHEST:
                raise ValueError(f"{label!r} is {distance} instructions away: too far to jump")
            parts.append(_INSTRUCTION.pack(code, to | source << 4, distance, immediate))
        return b"".join(parts)

    def _binary(self, code: int, register: int, value: int, label: str = "") -> None:
        if isinstance(value, Reg):
            self._add(code | _REGISTER, register, value, label=label)
        else:
            self._add(code, register, immediate=value, label=label)

    def _add(
        self, code: int, to: int = 0, source: int = 0, offset: int = 0, *, immediate: int = 0, label: str = ""
    ) -> None:
        self._code.append((code, to, source, offset, immediate, label))
