"""The keys that a manager needs before it can read anything: ``swarm/state.key`` (0600).

The file holds the data keys of the swarm's state and the passphrase of the node's own key, encrypted with a wrapping
key. While autolock is off the wrapping key lies in the same file, so that the daemon starts by itself. While it is on,
the wrapping key is the swarm's unlock key, which is nowhere on this machine's disk. One file, replaced in one step: it
is either open or locked.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec
from msgspec import field

from enxame.engine.durable_file import replace_file
from enxame.errors import EnxameError, Unauthenticated, Unavailable
from enxame.model.base import Model
from enxame.security.tokens import parse_unlock_key
from enxame.store.sealing import KEY_BYTES, Keyring

__all__ = ["STATE_KEY", "KeyMaterial", "Locked", "StateKeys", "WrongUnlockKey"]

STATE_KEY: Final = "state.key"
LOCKED: Final = (
    'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.'
)
_VERSION: Final = 1
_NONCE_BYTES: Final = 12
_BOUND_TO: Final = b"enxame state.key"


class Locked(Unavailable):
    """The keys are there, but the unlock key is needed."""

    def __init__(self, message: str = LOCKED) -> None:
        super().__init__(message)


class WrongUnlockKey(Unauthenticated):
    """It is a key, but not that of this swarm."""

    def __init__(self, message: str = "swarm could not be unlocked: invalid key provided") -> None:
        super().__init__(message)


class KeyMaterial(Model):
    """What is wrapped. ``keys``: data keys by number, of which ``current`` encrypts; ``passphrase``: of the node's own
    key while autolock is on; ``from_plain``: the state was not encrypted before, and perhaps is not yet.
    """

    keys: dict[int, bytes] = field(default_factory=dict)
    current: int = 0
    passphrase: str = ""
    from_plain: bool = False


class _File(Model):
    version: int = _VERSION
    #: Empty while autolock is on.
    wrapping_key: bytes = b""
    wrapped: bytes = b""


class StateKeys:
    """The keys of the swarm's ``directory``. Nothing is known before :meth:`load`, :meth:`unlock` or :meth:`create`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / STATE_KEY
        self._ring: Keyring | None = None
        self._passphrase = ""
        self._unlock_key = ""
        #: Whether the state is one from before encryption: it may hold plain records until this is unset and saved.
        self.from_plain = False

    # All of these touch the disk: call them in a thread where a loop runs.

    def load(self) -> bool:
        """Read the keys; False when there are none.

        Raises:
            Locked: the unlock key is needed.
            EnxameError: the file is damaged or cannot be read.
        """
        found = self._read()
        if found is None:
            return False
        if not found.wrapping_key:
            raise Locked
        self._take(self._unwrap(found, found.wrapping_key), "")
        return True

    def unlock(self, unlock_key: str) -> None:
        """Read the keys of a locked manager.

        Raises:
            InvalidArgument: it is no key (``invalid key string``).
            WrongUnlockKey: it is another one.
        """
        key = parse_unlock_key(unlock_key)
        found = self._read()
        if found is None:
            raise EnxameError(f"{self._path} is missing")
        self._take(self._unwrap(found, found.wrapping_key or key), "" if found.wrapping_key else unlock_key)

    def create(self, material: KeyMaterial | None = None, unlock_key: str = "", *, from_plain: bool = False) -> None:
        """Keys of a new swarm, or those that another manager gave; locked at once when there is an unlock key."""
        if material is not None:
            self._ring = Keyring(material.keys, material.current)
        else:
            self._ring = Keyring.generate()
        self._passphrase = secrets.token_urlsafe(32)
        self._unlock_key = unlock_key
        self.from_plain = from_plain
        self.save()

    def protect(self, unlock_key: str) -> bool:
        """Wrap the keys with the unlock key, or (empty) open them; False when it is so already."""
        if self._ring is None or unlock_key == self._unlock_key:
            return False
        parse_unlock_key(unlock_key or "SWMKEY-1-" + "A" * 43)
        before, self._unlock_key = self._unlock_key, unlock_key
        try:
            self.save()
        except BaseException:
            self._unlock_key = before
            raise
        return True

    def save(self) -> None:
        """Write them, durably. Raises OSError."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        ring = self.ring
        material = KeyMaterial(
            keys=dict(ring.keys), current=ring.current, passphrase=self._passphrase, from_plain=self.from_plain
        )
        wrapping = parse_unlock_key(self._unlock_key) if self._unlock_key else secrets.token_bytes(KEY_BYTES)
        nonce = os.urandom(_NONCE_BYTES)
        wrapped = nonce + AESGCM(wrapping).encrypt(nonce, msgspec.msgpack.encode(material), _BOUND_TO)
        content = _File(wrapping_key=b"" if self._unlock_key else wrapping, wrapped=wrapped)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(self._path, msgspec.json.encode(content))

    def remove(self) -> None:
        """This node is no manager any more."""
        self._path.unlink(missing_ok=True)
        self._ring, self._unlock_key, self._passphrase = None, "", ""

    # What is known

    @property
    def known(self) -> bool:
        """Whether the keys are here."""
        return self._ring is not None

    @property
    def ring(self) -> Keyring:
        """The data keys."""
        if self._ring is None:
            raise Locked
        return self._ring

    @property
    def material(self) -> KeyMaterial:
        """What another manager needs: the data keys."""
        return KeyMaterial(keys=dict(self.ring.keys), current=self.ring.current)

    @property
    def passphrase(self) -> str:
        """With which the node's own key is to be encrypted; empty: not at all."""
        return self._passphrase if self._unlock_key else ""

    @property
    def any_passphrase(self) -> str:
        """With which the node's own key may be encrypted."""
        return self._passphrase

    def _read(self) -> _File | None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EnxameError(f"cannot read {self._path}: {error.strerror}") from error
        try:
            found = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise EnxameError(f"{self._path} is damaged ({error}): restore it from a backup") from error
        if found.version > _VERSION:
            raise EnxameError(f"{self._path} was written by a newer version of enxame")
        return found

    def _unwrap(self, found: _File, key: bytes) -> KeyMaterial:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, content = found.wrapped[:_NONCE_BYTES], found.wrapped[_NONCE_BYTES:]
        try:
            return msgspec.msgpack.decode(AESGCM(key).decrypt(nonce, content, _BOUND_TO), type=KeyMaterial)
        except (InvalidTag, ValueError, msgspec.DecodeError):
            if found.wrapping_key:
                raise EnxameError(f"{self._path} is damaged: restore it from a backup") from None
            raise WrongUnlockKey from None

    def _take(self, material: KeyMaterial, unlock_key: str) -> None:
        self._ring = Keyring(material.keys, material.current)
        self._passphrase = material.passphrase
        self.from_plain = material.from_plain
        self._unlock_key = unlock_key
