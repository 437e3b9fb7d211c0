"""IPsec between machines, as requests to the kernel: ESP in transport mode around the packets of tunnels. Pure.

What leaves with :data:`MARK` towards a machine must be encrypted: without a fitting state the kernel drops it, so
nothing is ever sent in the clear. States are known by what they are for: addresses, and a key's number.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from hashlib import sha256
from hmac import digest
from ipaddress import IPv4Address, ip_address
from typing import Final

from enxame.network.netlink import NLM_F_CREATE, NLM_F_EXCL, Request, attribute, parse_attributes
from enxame.network.rtnetlink import Address

NETLINK_XFRM: Final = 6
#: Of packets of networks that are encrypted; the same as Docker's.
MARK: Final = 0xD0C4E3
#: What ESP adds to a packet at most: header, initial vector, padding, trailer, check value.
OVERHEAD: Final = 40

_NEW_STATE: Final = 0x10
_DEL_STATE: Final = 0x11
_GET_STATE: Final = 0x12
_UPDATE_POLICY: Final = 0x19
_DEL_POLICY: Final = 0x14
_GET_POLICY: Final = 0x15
_ALG_AEAD: Final = 18
_TMPL: Final = 5
_MARK: Final = 21
_ALGORITHM: Final = b"rfc4106(gcm(aes))"
_KEY_BYTES: Final = 20
_CHECK_BITS: Final = 128
_ESP: Final = socket.IPPROTO_ESP
_TRANSPORT: Final = 0
_OUT: Final = 1
_ALLOW: Final = 0
_FOREVER: Final = (1 << 64) - 1
_EVERY_ALGORITHM: Final = (1 << 32) - 1
#: Tells our policies and states from others'.
_REQID: Final = 0x656E78

_selector = struct.Struct("=16s16s2s2s2s2sHBBB3xii")
_id = struct.Struct("=16s4sB3x")
_limits = struct.Struct("=8Q")
_state_tail = struct.Struct("=16s64s32s12xIIHBBB7x")
_policy_tail = struct.Struct("=64s32sIIBBBB4x")
_template = struct.Struct("=24sH2x16sIBBBxIII")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the swarm; states' keys are derived from it. Larger numbers are newer."""

    number: int
    secret: bytes


@dataclass(frozen=True, slots=True, order=True)
class State:
    """One direction between two machines with one key."""

    source: Address
    target: Address
    spi: int


def state_of(source: Address, target: Address, key: Key) -> State:
    """Both machines come to the same."""
    seed = b"spi" + source.packed + target.packed + key.number.to_bytes(8)
    # Numbers below 256 are reserved.
    return State(source, target, int.from_bytes(sha256(seed).digest()[:4]) | 0x100)


def add_state(state: State, key: Key) -> Request:
    """Let the kernel encrypt or decrypt so."""
    # Each direction of each pair has a key of its own: two senders never use the same numbers with the same key.
    secret = digest(key.secret, state.source.packed + state.target.packed, "sha256")[:_KEY_BYTES]
    payload = _state_header(state) + attribute(
        _ALG_AEAD, struct.pack("=64sII", _ALGORITHM, len(secret) * 8, _CHECK_BITS) + secret
    )
    tolerated = frozenset({errno.EEXIST})
    return Request(_NEW_STATE, NLM_F_CREATE | NLM_F_EXCL, payload, f"encrypt towards {state.target}", tolerated)


def delete_state(state: State) -> Request:
    """Undo :func:`add_state`; tolerates that it is gone."""
    payload = struct.pack("=16s4sHB1x", _padded(state.target), state.spi.to_bytes(4), _family(state.target), _ESP)
    return Request(_DEL_STATE, 0, payload, "forget a key", frozenset({errno.ESRCH}))


def list_states() -> Request:
    """Ask for all states."""
    return Request(_GET_STATE, 0, b"", "list keys")


def parse_state(body: bytes) -> State | None:
    """One of ours, from the kernel's message; None for others'."""
    _, _, _, _, reqid, family, _, _, _ = _state_tail.unpack_from(body, _selector.size + _id.size)
    target, spi, _ = _id.unpack_from(body, _selector.size)
    if reqid != _REQID:
        return None
    source = body[_selector.size + _id.size :][:16]
    return State(_address(source, family), _address(target, family), int.from_bytes(spi))


def list_policies() -> Request:
    """Ask for all policies."""
    return Request(_GET_POLICY, 0, b"", "list what is encrypted")


def parse_policy(body: bytes) -> tuple[Address, Address, int] | None:
    """Source, target and port of a policy of ours, from the kernel's message; None for others'."""
    attributes = parse_attributes(body[_selector.size + _policy_tail.size :])
    template = attributes.get(_TMPL, b"")
    if len(template) < _template.size or _template.unpack_from(template)[3] != _REQID:
        return None
    target, source, port, _, _, _, family, *_ = _selector.unpack_from(body)
    return _address(source, family), _address(target, family), int.from_bytes(port)


def set_policy(state: State, port: int) -> Request:
    """What leaves with the mark from one machine to the other, to that UDP port, is encrypted by this state alone."""
    template = _template.pack(
        _id.pack(_padded(state.target), state.spi.to_bytes(4), _ESP),
        _family(state.target),
        _padded(state.source),
        _REQID,
        _TRANSPORT,
        0,
        0,
        _EVERY_ALGORITHM,
        _EVERY_ALGORITHM,
        _EVERY_ALGORITHM,
    )
    payload = (
        _policy_selector(state.source, state.target, port)
        + _policy_tail.pack(_forever(), bytes(32), 0, 0, _OUT, _ALLOW, 0, 0)
        + attribute(_TMPL, template)
        + attribute(_MARK, struct.pack("=II", MARK, 0xFFFFFFFF))
    )
    return Request(_UPDATE_POLICY, 0, payload, f"encrypt packets to {state.target}")


def delete_policy(source: Address, target: Address, port: int) -> Request:
    """Undo :func:`set_policy`; tolerates that it is gone."""
    payload = (
        _policy_selector(source, target, port)
        + struct.pack("=IB3x", 0, _OUT)
        + attribute(_MARK, struct.pack("=II", MARK, 0xFFFFFFFF))
    )
    return Request(_DEL_POLICY, 0, payload, f"leave packets to {target} alone", frozenset({errno.ENOENT}))


def _state_header(state: State) -> bytes:
    family = _family(state.target)
    return (
        bytes(_selector.size)
        + _id.pack(_padded(state.target), state.spi.to_bytes(4), _ESP)
        + _state_tail.pack(_padded(state.source), _forever(), bytes(32), 0, _REQID, family, _TRANSPORT, 0, 0)
    )


def _policy_selector(source: Address, target: Address, port: int) -> bytes:
    bits = target.max_prefixlen
    return _selector.pack(
        _padded(target),
        _padded(source),
        port.to_bytes(2),
        b"\xff\xff",
        b"",
        b"",
        _family(target),
        bits,
        bits,
        socket.IPPROTO_UDP,
        0,
        0,
    )


def _forever() -> bytes:
    return _limits.pack(_FOREVER, _FOREVER, _FOREVER, _FOREVER, 0, 0, 0, 0)


def _padded(address: Address) -> bytes:
    return address.packed.ljust(16, b"\0")


def _address(data: bytes, family: int) -> Address:
    return IPv4Address(data[:4]) if family == socket.AF_INET else ip_address(data[:16])


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
