"""Every error a user can see, drawn once.

    EnxameError                 500  something of ours went wrong
    ├── InvalidArgument         400  the request is malformed or breaks a rule
    ├── Unauthenticated         401  who are you?
    ├── PermissionDenied        403  we know you, but no
    ├── NotFound                404  no such object
    ├── Conflict                409  the object's state or name is in the way
    ├── Unimplemented           501  Swarm knows it, we (or Swarm) refuse it
    └── Unavailable             503  not now: not a manager, no leader, locked, shutting down

The message is what the user reads; it says what was wrong and, where that is not obvious, what to do.
``NotModified`` is no error but HTTP's 304: the container already is as asked.

Errors that cross from the swarm's core keep Swarm's prefix ``rpc error: code = X desc = …`` (clients match on
substrings of it): raise them with :func:`rpc_error`.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "Conflict",
    "EnxameError",
    "InvalidArgument",
    "NotFound",
    "NotModified",
    "PermissionDenied",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "rpc_error",
]


class EnxameError(Exception):
    """Base of all errors with a message for the user. ``status`` is the HTTP status it maps to."""

    status: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidArgument(EnxameError):
    """The request is malformed or breaks a rule."""

    status = 400


class Unauthenticated(EnxameError):
    """The caller did not prove who it is."""

    status = 401


class PermissionDenied(EnxameError):
    """The caller may not do this."""

    status = 403


class NotFound(EnxameError):
    """No such object."""

    status = 404


class Conflict(EnxameError):
    """The object's state, version or name is in the way."""

    status = 409


class Unimplemented(EnxameError):
    """Swarm's API has it, but it is refused."""

    status = 501


class Unavailable(EnxameError):
    """The daemon cannot do this in its present state (not a manager, no leader, locked)."""

    status = 503


class NotModified(Exception):
    """The object already is in the state that was asked for (HTTP 304, no body)."""


# gRPC code -> HTTP status, as moby's daemon/server/httpstatus/status.go maps them.
_RPC_CLASSES: dict[str, type[EnxameError]] = {
    "InvalidArgument": InvalidArgument,
    "FailedPrecondition": InvalidArgument,
    "OutOfRange": InvalidArgument,
    "Unauthenticated": Unauthenticated,
    "PermissionDenied": PermissionDenied,
    "NotFound": NotFound,
    "AlreadyExists": Conflict,
    "Unavailable": Unavailable,
    "Unimplemented": Unimplemented,
    "Unknown": EnxameError,
}


def rpc_error(code: str, desc: str) -> EnxameError:
    """An error in the wording of Swarm's core: ``rpc error: code = <code> desc = <desc>``.

    ``code`` is a gRPC code name; it decides the class, hence the HTTP status (``Unknown`` is 500).
    """
    return _RPC_CLASSES[code](f"rpc error: code = {code} desc = {desc}")
