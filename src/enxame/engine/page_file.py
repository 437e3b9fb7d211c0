"""Small records that are written often: whole whenever the writer dies, not necessarily on the disk."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["PAGE", "read_record", "replace", "write_record"]

#: Bytes that one write changes at once.
PAGE = 4096


def write_record(path: Path, record: bytes) -> None:
    """Write a record, one line of text without its end. Who reads finds it or the one before, never a half of either,
    unless the machine itself crashed.

    Raises:
        OSError: the disk refused.
    """
    data = record + b"\n"
    if len(data) > PAGE:
        replace(path, data, durable=False)
        return
    # One write within a page is never half done when we are killed, and ten times as fast as a rename, which
    # makes ext4 write the data out. What an older, longer record leaves after the newline is not read.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def read_record(path: Path) -> bytes:
    """The record without the end of its line.

    Raises:
        OSError: it cannot be read.
    """
    return path.read_bytes().partition(b"\n")[0]


def replace(path: Path, data: bytes, *, durable: bool) -> None:
    """Exchange a file's content by a rename; ``durable``: the content is on the disk when this returns."""
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
        if durable:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
