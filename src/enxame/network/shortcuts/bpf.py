"""The bpf(2) system call: maps, programs, links. Numbers are those of linux/bpf.h. All calls block shortly."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import struct
from collections.abc import Iterator
from typing import Final

from enxame.errors import EnxameError

_NUMBER: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_MAP_CREATE: Final = 0
_MAP_UPDATE: Final = 2
_MAP_DELETE: Final = 3
_PROGRAM_LOAD: Final = 5
_LINK_CREATE: Final = 28

_HASH: Final = 1
_RINGBUF: Final = 27
_NO_PREALLOCATION: Final = 1
_CLASSIFIER: Final = 3
_TCX_INGRESS: Final = 46
_NAME: Final = b"enxame_mesh"
_LOG_SIZE: Final = 1 << 16

_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_PAGE: Final = mmap.PAGESIZE

_libc = ctypes.CDLL(None, use_errno=True)


class BpfError(EnxameError):
    """The kernel refused. ``errno`` is its reason."""

    def __init__(self, what: str, code: int, detail: str = "") -> None:
        super().__init__(f"{what}: {detail or os.strerror(code)}")
        self.errno = code


def hash_map(key: int, value: int, entries: int) -> int:
    """A map's descriptor; it takes memory for what is in it. Sizes in bytes."""
    return _call(_MAP_CREATE, _map(_HASH, key, value, entries, _NO_PREALLOCATION), "make an eBPF map")


def ring_buffer(size: int) -> int:
    """A ring buffer's descriptor; ``size`` in bytes is a power of two of at least a page."""
    return _call(_MAP_CREATE, _map(_RINGBUF, 0, 0, size, 0), "make an eBPF ring buffer")


def update(descriptor: int, key: bytes, value: bytes) -> None:
    """Set an entry.

    Raises:
        BpfError: the map is full (E2BIG).
    """
    keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    attributes = struct.pack("=I4xQQQ", descriptor, ctypes.addressof(keys), ctypes.addressof(values), 0)
    _call(_MAP_UPDATE, attributes, "set an entry of an eBPF map")


def delete(descriptor: int, key: bytes) -> None:
    """Remove an entry; it need not be there."""
    keys = ctypes.create_string_buffer(key, len(key))
    attributes = struct.pack("=I4xQQQ", descriptor, ctypes.addressof(keys), 0, 0)
    try:
        _call(_MAP_DELETE, attributes, "remove an entry of an eBPF map")
    except BpfError as error:
        if error.errno != errno.ENOENT:
            raise


def load_classifier(instructions: bytes) -> int:
    """The descriptor of a program for packets that arrive.

    Raises:
        BpfError: no permission, or the kernel's verifier refuses it (it says why).
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    # Helpers that this program needs are for programs under the GPL or a compatible license only.
    license_ = ctypes.create_string_buffer(b"Dual MIT/GPL")

    def attributes(log: ctypes.Array[ctypes.c_char] | None) -> bytes:
        where = ctypes.addressof(log) if log is not None else 0
        size = _LOG_SIZE if log is not None else 0
        return struct.pack(
            "=IIQQIIQII16sII",
            _CLASSIFIER,
            len(instructions) // 8,
            ctypes.addressof(code),
            ctypes.addressof(license_),
            1 if log is not None else 0,
            size,
            where,
            0,
            0,
            _NAME,
            0,
            0,
        )

    what = "load an eBPF program"
    try:
        return _call(_PROGRAM_LOAD, attributes(None), what)
    except BpfError as error:
        if error.errno not in {errno.EINVAL, errno.EACCES}:
            raise
        log = ctypes.create_string_buffer(_LOG_SIZE)
        try:
            return _call(_PROGRAM_LOAD, attributes(log), what)
        except BpfError as refused:
            lines = log.value.decode(errors="replace").strip().splitlines()
            raise BpfError(what, refused.errno, "; ".join(lines[-4:-1]) or os.strerror(refused.errno)) from None


def attach_to_ingress(program: int, interface: int) -> int:
    """The descriptor of a link: while it is open the program sees what arrives at the interface of the calling thread's
    network namespace, after programs that were there before. Linux 6.6.
    """
    attributes = struct.pack("=IIII8xQ", program, interface, _TCX_INGRESS, 0, 0)
    return _call(_LINK_CREATE, attributes, f"attach an eBPF program to interface {interface}")


class RingReader:
    """What a program wrote to a ring buffer. The descriptor is readable while there is something."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._size = size
        self._consumer = mmap.mmap(descriptor, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        # The data is mapped twice, one after the other, so that records need not be put together.
        self._producer = mmap.mmap(descriptor, _PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)

    def close(self) -> None:
        """Idempotent."""
        self._consumer.close()
        self._producer.close()

    def read(self) -> Iterator[bytes]:
        """What has been written since."""
        (position,) = struct.unpack_from("=Q", self._consumer)
        while position < struct.unpack_from("=Q", self._producer)[0]:
            start = _PAGE + position % self._size
            (length,) = struct.unpack_from("=I", self._producer, start)
            if length & _BUSY:
                return
            size = length & ~_DISCARDED
            record = self._producer[start + 8 : start + 8 + size]
            position += 8 + size + -size % 8
            # Before it is given away: who takes no more does not come back here.
            struct.pack_into("=Q", self._consumer, 0, position)
            if not length & _DISCARDED:
                yield record


def _map(kind: int, key: int, value: int, entries: int, flags: int) -> bytes:
    return struct.pack("=IIIIIII16s", kind, key, value, entries, flags, 0, 0, _NAME)


def _call(command: int, attributes: bytes, what: str) -> int:
    number = _NUMBER.get(platform.machine())
    if number is None:
        raise BpfError(what, errno.ENOSYS)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(_libc.syscall(number, command, buffer, len(attributes)))
    if result < 0:
        raise BpfError(what, ctypes.get_errno())
    return result
