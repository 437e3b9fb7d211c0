"""An image's configuration as Docker's builder would have left it. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["as_dockers"]

_COMMENT: Final = "FROM "


def as_dockers(config: bytes) -> bytes:
    """The configuration without what buildah adds of itself: a host name, and which image of its own each step is from.
    What there is nothing to leave out of stays as it is, byte for byte.
    """
    image: dict[str, Any] = msgspec.json.decode(config)
    inner = image.get("config") or {}
    steps = [step for step in image.get("history") or [] if str(step.get("comment", "")).startswith(_COMMENT)]
    if not inner.get("Hostname") and not steps and not str(image.get("comment", "")).startswith(_COMMENT):
        return config
    inner.pop("Hostname", None)
    for holder in (image, *steps):
        if str(holder.get("comment", "")).startswith(_COMMENT):
            del holder["comment"]
    return msgspec.json.encode(image)
