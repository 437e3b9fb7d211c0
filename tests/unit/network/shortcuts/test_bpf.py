from __future__ import annotations

import errno
import platform
import struct

import pytest

from enxame.network.shortcuts import bpf


def test_machines_whose_system_calls_are_not_known_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    with pytest.raises(bpf.BpfError, match="make an eBPF map: Function not implemented") as caught:
        bpf.hash_map(4, 4, 1)
    assert caught.value.errno == errno.ENOSYS


class Ring(bpf.RingReader):
    """Over memory of our own: the kernel's half of it is written here."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._consumer = bytearray(bpf.mmap.PAGESIZE)  # type: ignore[assignment]
        self._producer = bytearray(bpf.mmap.PAGESIZE + 2 * size)  # type: ignore[assignment]
        self.written = 0

    def write(self, record: bytes, flags: int = 0) -> None:
        place = self.written % self._size
        data = struct.pack("=II", len(record) | flags, 0) + record
        for offset, byte in enumerate(data):
            for copy in (0, self._size):  # the same memory is mapped twice
                self._producer[bpf.mmap.PAGESIZE + (place + offset) % self._size + copy] = byte  # type: ignore[index]
        self.written += len(data) + -len(data) % 8
        struct.pack_into("=Q", self._producer, 0, self.written)


def test_records_come_once_in_order_also_over_the_rings_end_and_to_who_takes_few_at_a_time() -> None:
    ring = Ring(128)
    sent, got = [bytes([number]) * 13 for number in range(50)], []
    for position in range(0, 50, 2):
        for record in sent[position : position + 2]:
            ring.write(record)
        reading = ring.read()
        got.append(next(reading))
        reading.close()
        got += list(ring.read())
    assert got == sent


def test_records_that_are_not_finished_wait_and_discarded_ones_do_not_come() -> None:
    ring = Ring(128)
    ring.write(b"first")
    ring.write(b"no", 1 << 30)
    ring.write(b"second", 1 << 31)
    assert list(ring.read()) == [b"first"]
    assert list(ring.read()) == []
