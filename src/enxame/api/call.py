"""One request as handlers see it: its name, query, body and credentials, already read the way Docker reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from aiohttp import web

from enxame.errors import InvalidArgument
from enxame.model.base import decode
from enxame.model.filters import Filters

if TYPE_CHECKING:
    from enxame.api.context import ApiContext
    from enxame.api.forwarding import Forwarder

T = TypeVar("T", bound=msgspec.Struct)

#: Docker's idea of "no" in a query (api/server/httputils/form.go); everything else is yes.
#: Digits of a number in a query; no 64 bits have more.
_LONGEST_NUMBER: Final = 30
#: Commas in a JSON body. A service with thousands of ports has fewer.
_MOST_VALUES: Final = 25_000
_FALSE: Final = frozenset({"", "0", "no", "false", "none"})


class Call:
    """A request and what it is asked of."""

    __slots__ = (
        "_query",
        "_raw_query",
        "api",
        "asked_by",
        "forwarder",
        "looks_only",
        "name",
        "object_id",
        "request",
        "target",
        "version",
    )

    def __init__(
        self,
        api: ApiContext,
        forwarder: Forwarder,
        request: web.BaseRequest,
        name: str,
        *,
        target: str,
        raw_query: str,
        version: tuple[int, int],
    ) -> None:
        self.api = api
        self.forwarder = forwarder
        self.request = request
        #: Path and query as they came.
        self.target = target
        #: The request came to a listener that only serves those who look.
        self.looks_only = False
        #: The node id of the manager that passed the request on: it wants the swarm's part alone. Empty for a client.
        self.asked_by = ""
        #: Of what the request is to make in the swarm; empty: anything will do.
        self.object_id = ""
        #: The ``{name}`` of the path, decoded.
        self.name = unquote(name) if "%" in name else name
        #: Of the Engine API, as the path says; the newest when it is silent.
        self.version = version
        self._raw_query = raw_query
        self._query: Mapping[str, list[str]] | None = None

    @property
    def query(self) -> Mapping[str, list[str]]:
        """All values by parameter."""
        if self._query is None:
            query: dict[str, list[str]] = {}
            for key, value in parse_qsl(self._raw_query, keep_blank_values=True) if self._raw_query else ():
                query.setdefault(key, []).append(value)
            self._query = query
        return self._query

    def text(self, parameter: str, default: str = "") -> str:
        """First value of a query parameter."""
        values = self.query.get(parameter)
        return values[0] if values else default

    def texts(self, parameter: str) -> list[str]:
        """All values of a query parameter."""
        return self.query.get(parameter, [])

    def flag(self, parameter: str, default: bool = False) -> bool:
        """A boolean as Docker reads it: empty, 0, no, false and none are false, everything else is true."""
        values = self.query.get(parameter)
        return default if not values else values[0].strip().lower() not in _FALSE

    def integer(self, parameter: str, default: int = 0) -> int:
        """A whole number. Raises InvalidArgument in Go's words on anything else."""
        value = self.text(parameter)
        if not value:
            return default
        return _integer(value, "ParseInt", "")

    def required_integer(self, parameter: str) -> int:
        """A whole number that must be there."""
        return _integer(self.text(parameter), "ParseInt", "")

    def object_version(self, kind: str) -> int:
        """The ``version=`` of an update: the optimistic lock."""
        value = self.text("version")
        return _integer(value, "ParseUint", f"invalid {kind} version '{value}': ")

    def filters(self, accepted: Iterable[str] | None = None) -> Filters:
        """``filters=``; names outside ``accepted`` are refused."""
        filters = Filters.parse(self.text("filters"), accepted)
        if self.asked_by and "self" in (nodes := filters.get("node")):
            # "self" is the node that the client asked.
            filters = Filters({**filters.values, "node": nodes - {"self"} | {self.asked_by}})
        return filters

    async def body(self, as_type: type[T]) -> T:
        """The JSON body as a typed object; an absent body is an empty object.

        Raises:
            InvalidArgument: not declared as JSON, not JSON, or of wrong types.
        """
        data = await self.request.read()
        content_type = self.request.headers.get("Content-Type", "")
        if not data and not content_type:
            return as_type()
        _require_json(content_type)
        if not data:
            return as_type()
        if data.count(b",") > _MOST_VALUES:
            # What takes the decoder tens of milliseconds is no text, however long: it is many small things.
            raise InvalidArgument(f"invalid JSON: more than {_MOST_VALUES} values")
        return decode(data, as_type)


def _integer(value: str, function: str, prefix: str) -> int:
    unsigned = function == "ParseUint"
    digits = value[1:] if value[:1] in ("+", "-") and not unsigned else value
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidArgument(f'{prefix}strconv.{function}: parsing "{value}": invalid syntax')
    number = int(value) if len(digits) <= _LONGEST_NUMBER else 1 << 65
    if number >= (1 << 64 if unsigned else 1 << 63) or number < -(1 << 63):
        raise InvalidArgument(f'{prefix}strconv.{function}: parsing "{value}": value out of range')
    return number


def _require_json(content_type: str) -> None:
    if content_type == "application/json":
        return
    if not content_type:
        raise InvalidArgument("malformed Content-Type header (): mime: no media type")
    kind = content_type.partition(";")[0].strip().lower()
    if not kind or kind.count("/") != 1:
        raise InvalidArgument(f"malformed Content-Type header ({content_type}): mime: invalid media parameter")
    if kind != "application/json":
        raise InvalidArgument(f"unsupported Content-Type header ({content_type}): must be 'application/json'")
