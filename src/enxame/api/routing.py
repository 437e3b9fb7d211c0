"""Which handler answers a method and path: one dictionary look-up a request.

All of the Engine API's paths have the shape ``/collection[/{name}[/action]]`` or are fixed, so a table of
``(method, collection, action)`` serves them without patterns. Names of images and plugins contain slashes; there the
action is what follows the last one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web

from enxame.errors import Unimplemented

if TYPE_CHECKING:
    from enxame.api.call import Call

Handler = Callable[["Call"], Awaitable[web.StreamResponse]]

_NAMES_WITH_SLASHES: Final = frozenset({"images", "distribution", "plugins"})


class Routes:
    """The routes that a resource's module declares with decorators, later those of the whole API."""

    def __init__(self) -> None:
        #: (method, whole path) → handler
        self._fixed: dict[tuple[str, str], Handler] = {}
        #: (method, collection, action) → handler taking a name
        self._named: dict[tuple[str, str, str], Handler] = {}

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """Declare a handler of ``GET path``; ``{name}`` may stand as second segment."""
        return self.on("GET", path)

    def head(self, path: str) -> Callable[[Handler], Handler]:
        """Declare a handler of ``HEAD path``."""
        return self.on("HEAD", path)

    def post(self, path: str) -> Callable[[Handler], Handler]:
        """Declare a handler of ``POST path``."""
        return self.on("POST", path)

    def put(self, path: str) -> Callable[[Handler], Handler]:
        """Declare a handler of ``PUT path``."""
        return self.on("PUT", path)

    def delete(self, path: str) -> Callable[[Handler], Handler]:
        """Declare a handler of ``DELETE path``."""
        return self.on("DELETE", path)

    def on(self, method: str, path: str) -> Callable[[Handler], Handler]:
        """Declare a handler of ``method path``."""

        def declare(handler: Handler) -> Handler:
            if "/{name}" in path:
                collection, _, action = path[1:].partition("/{name}")
                key = (method, collection, action[1:])
                if key in self._named:
                    raise ValueError(f"{method} {path} is declared twice")
                self._named[key] = handler
            else:
                if (method, path) in self._fixed:
                    raise ValueError(f"{method} {path} is declared twice")
                self._fixed[(method, path)] = handler
            return handler

        return declare

    def not_supported(self, method: str, path: str, what: str) -> None:
        """Declare an endpoint that Docker has and this daemon has not yet: 501 with ``what`` in the message."""

        async def refuse(_call: Call) -> web.StreamResponse:
            raise Unimplemented(f"{what} is not supported by this daemon yet")

        self.on(method, path)(refuse)

    def include(self, other: Routes) -> None:
        """Add another module's routes. Raises ValueError on a route that is there already."""
        twice = (self._fixed.keys() & other._fixed.keys()) | (self._named.keys() & other._named.keys())
        if twice:
            raise ValueError(f"{' '.join(next(iter(twice)))} is declared twice")
        self._fixed.update(other._fixed)
        self._named.update(other._named)

    def find(self, method: str, path: str) -> tuple[Handler, str] | None:
        """The handler of a request and the ``{name}`` in its path (empty where there is none).

        ``path`` has neither version prefix nor query; it is still percent-encoded, and so is the name.
        """
        fixed = self._fixed.get((method, path))
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
