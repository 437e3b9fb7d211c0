"""What becomes of a request whose leader was lost while it worked on it: may it be made again? Pure.

Whether it was done is not known then. Nothing may be done twice, and nothing that was done may be called failed.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from enxame.api.routing import Operation

#: Told when nobody can say whether it was done.
IN_DOUBT: Final = (
    "rpc error: code = Unknown desc = The swarm lost its leader while this request was carried out. It may have been "
    "done: look before you repeat it."
)
#: Told when it turned out that it was not done, and repeating it could hit another object of the same name.
NOT_DONE: Final = (
    "rpc error: code = Unavailable desc = The swarm lost its leader before this request was carried out. Nothing was "
    "changed: please try again."
)
OUT_OF_SEQUENCE: Final = "update out of sequence"


class Repeat(Enum):
    """How a request is made again."""

    #: It changes nothing.
    FREELY = "freely"
    #: It makes an object under an id that it carries: who finds an object with it knows that it was done.
    BY_ID = "by id"
    #: It names the version that it replaces: it cannot be done twice.
    BY_VERSION = "by version"
    #: Only looking tells: a removed object is gone.
    BY_LOOKING = "by looking"


def how_to_repeat(operation: Operation) -> Repeat:
    """What an operation allows. Raises ValueError for one that was given no way: a mistake in a declaration."""
    if operation.method in ("GET", "HEAD"):
        return Repeat.FREELY
    if operation.method == "DELETE":
        return Repeat.BY_LOOKING
    if operation.path.endswith("/create"):
        return Repeat.BY_ID
    if "version*" in operation.query:
        return Repeat.BY_VERSION
    raise ValueError(f"{operation.method} {operation.path} is the leader's, but could happen twice")
