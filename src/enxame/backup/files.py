"""Making, checking and reading backups on disk. Everything blocks: call it in a thread."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from enxame.backup import form
from enxame.backup.form import ITEMS_SCHEMA, Backup, Head, Item
from enxame.errors import EnxameError, InvalidArgument, NotFound

__all__ = ["SECRET_HEADER", "Secret", "check", "encode", "restore", "write"]

#: Carries a :class:`Secret` with a request of the API, as ``X-Registry-Auth`` does credentials.
SECRET_HEADER: Final = "X-Backup-Secret"
_KINDS: Final = ("passphrase", "keyfile")
_SHORTEST_KEY: Final = 16
#: It goes into a header.
_LONGEST_KEY: Final = 4096


class _Sent(msgspec.Struct, rename="pascal", forbid_unknown_fields=True):
    kind: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Secret:
    """What a backup is encrypted with. ``kind``: passphrase|keyfile."""

    kind: str
    value: bytes

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InvalidArgument(f"a backup is encrypted with a passphrase or a key file, not with a {self.kind}")
        if not self.value:
            raise InvalidArgument("the passphrase is empty")

    @classmethod
    def from_key_file(cls, path: Path) -> Secret:
        """The content of a key file. Raises InvalidArgument when it is missing or too short to be one."""
        try:
            value = path.read_bytes()
        except OSError as error:
            raise InvalidArgument(f"cannot read the key file {path}: {error.strerror}") from error
        if len(value) < _SHORTEST_KEY:
            raise InvalidArgument(f"the key file {path} is too short: at least {_SHORTEST_KEY} bytes are needed")
        if len(value) > _LONGEST_KEY:
            raise InvalidArgument(f"the key file {path} is too long: at most {_LONGEST_KEY} bytes do")
        return cls("keyfile", value)

    @classmethod
    def from_header(cls, text: str) -> Secret | None:
        """What :meth:`header` made; None for no text. Raises InvalidArgument."""
        if not text:
            return None
        try:
            sent = msgspec.json.decode(base64.urlsafe_b64decode(text), type=_Sent)
        except (binascii.Error, ValueError, msgspec.DecodeError) as error:
            raise InvalidArgument(f"{SECRET_HEADER} is not base64url of JSON with Kind and Value: {error}") from error
        return cls(sent.kind, sent.value)

    def header(self) -> str:
        """The secret as the value of a header."""
        return base64.urlsafe_b64encode(msgspec.json.encode(_Sent(self.kind, self.value))).decode()


def encode(head: Head, items: Iterable[Item], secret: Secret | None = None) -> Iterator[bytes]:
    """A whole backup, piece by piece, encrypted with the secret."""
    key = None
    if secret is not None:
        encryption, key = form.new_encryption(secret.kind, secret.value, secrets.token_bytes(16))
        head = msgspec.structs.replace(head, encryption=encryption)
    yield from form.encode(head, items, key)


def write(path: Path, pieces: Iterable[bytes], secret: Secret | None = None) -> Head:
    """Keep a backup: mode 0600, whole or not at all, read back before it takes the name; what was there before stays
    until then.

    Raises:
        Damaged: what came is no whole backup.
        EnxameError: it cannot be written; says why.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        head = check(draft, secret)
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


def check(path: Path, secret: Secret | None = None) -> Head:
    """Verify a backup. Without the secret of an encrypted one, its checksums alone.

    Raises:
        Damaged: it is.
        InvalidArgument: it is no backup, or the secret is not its.
        NotFound: there is none.
    """
    return _read(path, secret, inside=False).head


def restore(path: Path, secret: Secret | None = None) -> Backup:
    """Read all of a backup. Raises as :func:`check`."""
    return _read(path, secret, inside=True)


def _read(path: Path, secret: Secret | None, *, inside: bool) -> Backup:
    def key(head: Head) -> bytes | None:
        if head.schema > ITEMS_SCHEMA:
            raise InvalidArgument(f"the backup was made by a newer enxame (schema {head.schema})")
        if head.encryption is None:
            return None
        if secret is None:
            if inside:
                wanted = "key file" if head.encryption.kind == "keyfile" else "passphrase"
                raise InvalidArgument(f"the backup is encrypted: its {wanted} is needed")
            return None
        return form.key_of(head, secret.kind, secret.value)

    try:
        with path.open("rb") as file:
            return form.read(file, key)
    except FileNotFoundError:
        raise NotFound(f"no such backup: {path}") from None
    except OSError as error:
        raise EnxameError(f"cannot read the backup {path}: {error.strerror}") from error
