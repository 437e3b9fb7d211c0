"""Images of this machine. Import :class:`ImageStore` from here; it is loaded on first use, because the worker processes
of this package start in a tenth of a second only while they load nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enxame.engine.images.store import ImageStore as ImageStore
    from enxame.engine.images.store import ImageUser as ImageUser

__all__ = ["ImageStore", "ImageUser"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from enxame.engine.images import store

        return getattr(store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
