"""Which handler answers a method and path: one dictionary look-up a request.

All of the Engine API's paths have the shape ``/collection[/{name}[/action]]`` or are fixed, so a table of
``(method, collection, action)`` serves them without patterns. Names of images and plugins contain slashes; there the
action is what follows the last one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from aiohttp import web

from enxame.errors import Unimplemented

if TYPE_CHECKING:
    from enxame.api.call import Call

Handler = Callable[["Call"], Awaitable[web.StreamResponse]]

_NAMES_WITH_SLASHES: Final = frozenset({"images", "distribution", "plugins"})


class Declaration(TypedDict, total=False):
    """What a route takes and answers, beside what its handler reads; ``/openapi.json`` is made of it."""

    #: Parameter (``name*`` when it must be there) → str, int, bool, list[str], or the names of the filters it takes.
    query: Mapping[str, Any]
    headers: tuple[str, ...]
    #: Type of the JSON body, or the media type of one that is taken as it comes.
    body: Any
    #: Type of the JSON answer; none without a body.
    answer: Any
    #: Of the answer, when it is not one JSON document.
    media: str
    #: Of success.
    status: int
    #: Others that have a meaning here; 400, 500 and 501 may come anywhere.
    errors: tuple[int, ...]
    #: Changes nothing, shows no secret, asks nobody else: read-only sockets serve it.
    looks: bool
    #: The swarm's leader answers it, whichever manager is asked; or what tells whether a request is of that kind.
    leader: bool | Callable[[Call], Awaitable[bool]]
    #: Answered by who is asked, who may ask the leader for the swarm's part of the answer.
    swarm_part: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route: handler and declaration."""

    method: str
    path: str
    handler: Handler
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    body: Any = None
    answer: Any = None
    media: str = "application/json"
    status: int = 200
    errors: tuple[int, ...] = ()
    looks: bool = False
    leader: bool | Callable[[Call], Awaitable[bool]] = False
    swarm_part: bool = False
    #: False: the answer is always 501.
    offered: bool = True


class Routes:
    """The routes that a resource's module declares with decorators, later those of the whole API."""

    def __init__(self) -> None:
        #: (method, whole path) → operation
        self._fixed: dict[tuple[str, str], Operation] = {}
        #: (method, collection, action) → operation of a name
        self._named: dict[tuple[str, str, str], Operation] = {}

    def get(self, path: str, **declaration: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a handler of ``GET path``; ``{name}`` may stand as second segment."""
        return self.on("GET", path, **declaration)

    def head(self, path: str, **declaration: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a handler of ``HEAD path``."""
        return self.on("HEAD", path, **declaration)

    def post(self, path: str, **declaration: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a handler of ``POST path``."""
        return self.on("POST", path, **declaration)

    def put(self, path: str, **declaration: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a handler of ``PUT path``."""
        return self.on("PUT", path, **declaration)

    def delete(self, path: str, **declaration: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a handler of ``DELETE path``."""
        return self.on("DELETE", path, **declaration)

    def on(self, method: str, path: str, **declaration: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a handler of ``method path``."""

        def declare(handler: Handler) -> Handler:
            self._add(Operation(method=method, path=path, handler=handler, **declaration))
            return handler

        return declare

    def not_supported(self, method: str, path: str, what: str) -> None:
        """Declare an endpoint that Docker has and this daemon has not yet: 501 with ``what`` in the message."""

        async def refuse(_call: Call) -> web.StreamResponse:
            raise Unimplemented(f"{what} is not supported by this daemon yet")

        self._add(Operation(method=method, path=path, handler=refuse, offered=False))

    def _add(self, operation: Operation) -> None:
        method, path = operation.method, operation.path
        if "/{name}" in path:
            collection, _, action = path[1:].partition("/{name}")
            key = (method, collection, action[1:])
            if key in self._named:
                raise ValueError(f"{method} {path} is declared twice")
            self._named[key] = operation
        else:
            if (method, path) in self._fixed:
                raise ValueError(f"{method} {path} is declared twice")
            self._fixed[(method, path)] = operation

    def include(self, other: Routes) -> None:
        """Add another module's routes. Raises ValueError on a route that is there already."""
        twice = (self._fixed.keys() & other._fixed.keys()) | (self._named.keys() & other._named.keys())
        if twice:
            raise ValueError(f"{' '.join(next(iter(twice)))} is declared twice")
        self._fixed.update(other._fixed)
        self._named.update(other._named)

    @property
    def operations(self) -> list[Operation]:
        """All of them, by path and method."""
        every = [*self._fixed.values(), *self._named.values()]
        return sorted(every, key=lambda operation: (operation.path, operation.method))

    def find(self, method: str, path: str) -> tuple[Operation, str] | None:
        """The operation that a request means and the ``{name}`` in its path (empty where there is none).

        ``path`` has neither version prefix nor query; it is still percent-encoded, and so is the name.
        """
        fixed = self._fixed.get((method, "/networks" if path == "/networks/" else path))  # as Docker's, this one only
        if fixed is not None:
            return fixed, ""
        collection, _, rest = path[1:].partition("/")
        if not rest:
            return None
        if collection in _NAMES_WITH_SLASHES:
            name, _, action = rest.rpartition("/")
        else:
            name, _, action = rest.partition("/")
        if name and action:
            named = self._named.get((method, collection, action))
            if named is not None:
                return named, name
        if not action or collection in _NAMES_WITH_SLASHES:
            whole = self._named.get((method, collection, ""))
            if whole is not None:
                return whole, rest
        return None
