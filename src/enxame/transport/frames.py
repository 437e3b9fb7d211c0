"""What goes over a link: length, then one msgpack array (pure).

    caller → callee    CALL [method, payload]   CREDIT [items]   CANCEL
    callee → caller    RESULT [payload]         ITEM [payload]   END      ERROR [class, message]

Every frame carries the number that the caller gave the call. Both sides may call: the kind says whose number it is.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import Final

import msgspec

#: Longest frame: bytes. An assignment set of some thousand tasks is 4 MiB.
MAX_FRAME: Final = 16 << 20
_LENGTH_BYTES: Final = 4


class ProtocolError(Exception):
    """The other side does not speak this protocol, or broke its rules; the link is of no use any more."""


class Kind(IntEnum):
    """What a frame is."""

    CALL = 0
    CREDIT = 1
    CANCEL = 2
    RESULT = 3
    ITEM = 4
    END = 5
    ERROR = 6


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """``text`` is a method's name or an error's class; ``payload`` is msgpack, to be decoded by who knows its type."""

    kind: Kind
    call: int
    text: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"\xc0")


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def pack(frame: Frame) -> bytes:
    """The bytes of a frame. Raises ProtocolError when it is longer than the other side takes."""
    body = _encode(frame)
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a message of {len(body)} bytes is more than a link carries ({MAX_FRAME})")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None when the other side closed the link between two frames.

    Raises:
        ProtocolError: what came is no frame.
        ConnectionError: the link broke.
    """
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if length > MAX_FRAME:
            raise ProtocolError(f"a frame of {length} bytes was announced; at most {MAX_FRAME} are taken")
        return _decode(await reader.readexactly(length))
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ConnectionResetError("the link ended within a frame") from None
        return None
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ProtocolError(f"not a frame: {error}") from error
