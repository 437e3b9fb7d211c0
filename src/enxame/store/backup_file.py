"""Making, checking and reading backups on disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.store import backup
from enxame.store.backend import Backend, Record
from enxame.store.backup import Backup, Head

__all__ = ["Secret", "check", "make", "restore"]

#: Of the records' msgpack: raised when an older program could not read them.
RECORDS_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Secret:
    """What a backup is encrypted with. ``kind``: passphrase|keyfile."""

    kind: str
    value: bytes

    @classmethod
    def from_key_file(cls, path: Path) -> Secret:
        """The content of a key file. Raises InvalidArgument when it is missing or too short to be one."""
        try:
            value = path.read_bytes()
        except OSError as error:
            raise InvalidArgument(f"cannot read the key file {path}: {error.strerror}") from error
        if len(value) < 16:
            raise InvalidArgument(f"the key file {path} is too short: at least 16 bytes are needed")
        return cls("keyfile", value)


async def make(
    source: Backend, path: Path, *, cluster_id: str, node_id: str, now: datetime, secret: Secret | None = None
) -> Head:
    """Back up what the backend holds, at one revision, while it is in use; mode 0600, whole or not at all.

    ``source`` must be able to load while a store runs on it, as all our backends are.

    Raises:
        InvalidArgument: an empty passphrase.
        EnxameError: it cannot be written; says why.
    """
    if secret is not None and not secret.value:
        raise InvalidArgument("the passphrase is empty")
    revision, records = await source.load()
    draft = Head(backup.FORMAT, RECORDS_SCHEMA, cluster_id, node_id, revision, len(records), now.isoformat())
    return await asyncio.to_thread(_write, path, records, draft, secret)


async def check(path: Path, secret: Secret | None = None) -> Head:
    """Verify a backup. Without the secret of an encrypted one, its checksums alone.

    Raises:
        Corrupt: it is damaged.
        InvalidArgument: it is no backup, or the secret is not its.
    """
    return (await asyncio.to_thread(_read, path, secret, False)).head


async def restore(path: Path, secret: Secret | None = None) -> Backup:
    """Read a backup for a new backend (``write_database``, ``import_state``). Raises as :func:`check`."""
    return await asyncio.to_thread(_read, path, secret, True)


def _write(path: Path, records: Sequence[Record], head: Head, secret: Secret | None) -> Head:
    key = None
    if secret is not None:
        encryption, key = backup.new_encryption(secret.kind, secret.value, secrets.token_bytes(16))
        head = replace(head, encryption=encryption)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            backup.write(file, head, records, key)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise EnxameError(f"cannot write the backup {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return head


def _read(path: Path, secret: Secret | None, inside: bool) -> Backup:
    def key(head: Head) -> bytes | None:
        if head.schema > RECORDS_SCHEMA:
            raise InvalidArgument(f"the backup was made by a newer enxame (schema {head.schema})")
        if head.encryption is None:
            return None
        if secret is None:
            if inside:
                raise InvalidArgument(f"the backup is encrypted: its {head.encryption.kind} is needed")
            return None
        return backup.key_of(head, secret.kind, secret.value)

    try:
        with path.open("rb") as file:
            return backup.read(file, key)
    except FileNotFoundError:
        raise NotFound(f"no such backup: {path}") from None
    except OSError as error:
        raise EnxameError(f"cannot read the backup {path}: {error.strerror}") from error
