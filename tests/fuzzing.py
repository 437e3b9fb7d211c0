"""Requests made from the API's own description: valid ones and broken ones, sent to a daemon that has to stand them.

Schemathesis makes the requests; this sends them, with deadlines, and judges the answers: no failure of the daemon, no
hang, no status that the description does not name, no JSON other than it describes.
"""

import http.client
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import jsonschema_rs
import msgspec
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from enxame.api.openapi import document
from enxame.api.resources import all_routes
from enxame.api.routing import Operation

__all__ = ["DOCUMENT", "OPERATIONS", "Fuzzer", "title"]

DOCUMENT: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document(all_routes().operations)))
OPERATIONS = [operation for operation in all_routes().operations if operation.offered]

#: Seconds for an answer; and for the next piece of a stream, which may have nothing to tell.
DEADLINE = 20.0
QUIET = 0.05

_STREAMS = re.compile(r"/(events|attach|logs|stats|wait|exec/\{name\}/start)")


@schemathesis.serializer("application/x-tar")
def _as_it_is(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def _for_generation() -> Any:
    described = json.loads(json.dumps(DOCUMENT))
    for path in described["paths"].values():
        for operation in path.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content.setdefault("schema", {"type": "string"})
    return schemathesis.openapi.from_dict(described)


_SCHEMA = _for_generation()


def title(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    #: None: a stream that was left.
    body: bytes | None


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=DEADLINE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Fuzzer:
    """Fuzzes the daemon behind a socket.

    ``names``: by collection, what is there, so that not every request ends with a 404. ``tame`` may change a body
    before it is sent. ``may_fail``: titles of operations that ask somebody else and may answer 500 for him.
    """

    def __init__(
        self,
        socket_path: str,
        *,
        names: Mapping[str, list[str]],
        tame: Callable[[Operation, Any], Any] = lambda _operation, body: body,
        may_fail: frozenset[str] = frozenset(),
    ) -> None:
        self._socket_path = socket_path
        self._names = names
        self._tame = tame
        self._may_fail = may_fail

    def run(self, operation: Operation, examples: int) -> None:
        """Send ``examples`` valid and as many broken requests; raises AssertionError with the first bad answer."""
        described = _SCHEMA[operation.path][operation.method]
        known = st.sampled_from(self._names.get(operation.path.split("/")[1], [""]))
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                cases = described.as_strategy(generation_mode=mode)
            except Exception as error:  # what takes nothing cannot be broken
                if "negative" in str(error).lower():
                    continue
                raise

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            )
            @given(case=cases, name=known, use_name=st.integers(0, 3))
            def attempt(case: Any, name: str, use_name: int) -> None:
                if name and use_name and "{name}" in operation.path:
                    case.path_parameters = {"name": name}
                self._judge(operation, case, self._send(operation, case))

            try:
                attempt()
            except Exception as error:
                if type(error).__name__ in ("Unsatisfiable", "SkipTest", "Skipped"):
                    continue
                raise

    def _send(self, operation: Operation, case: Any) -> Answer:
        name = str((case.path_parameters or {}).get("name", ""))
        path = operation.path.replace("{name}", quote(name, safe=""))
        query = urlencode(list(_pairs(case.query)))
        headers = {key: value for key, value in (case.headers or {}).items() if _is_sendable(key, value)}
        body = None
        if not isinstance(case.body, type(schemathesis.core.NOT_SET)):
            tamed = self._tame(operation, case.body)
            body = tamed if isinstance(tamed, bytes) else json.dumps(tamed).encode()
            headers["Content-Type"] = operation.body if isinstance(operation.body, str) else "application/json"
        with closing(_Connection(self._socket_path)) as connection:
            connection.request(operation.method, f"{path}?{query}" if query else path, body, headers)
            sock = connection.sock
            response = connection.getresponse()
            kind = response.headers.get("Content-Type", "")
            if response.status < 300 and _STREAMS.search(operation.path):
                sock.settimeout(QUIET)
                with suppress(TimeoutError, http.client.HTTPException), response:
                    response.read(4096)
                return Answer(response.status, kind, None)
            return Answer(response.status, kind, response.read())

    def _judge(self, operation: Operation, case: Any, answer: Answer) -> None:
        told = f"{title(operation)} {case.path_parameters} {case.query} {case.body!r}: {answer}"
        if answer.status == 500:
            # Docker answers so when somebody else was faster.
            lost_race = b"desc = update out of sequence" in (answer.body or b"")
            assert lost_race or title(operation) in self._may_fail, told
            assert b"internal error" not in (answer.body or b""), told
        responses = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
        # An undescribed name of a path leads to another operation, or to none.
        if not (answer.status == 404 and "{name}" in operation.path):
            assert str(answer.status) in responses, told
        schema = _schema(operation, answer)
        if schema is not None and answer.body:
            error = next(iter(jsonschema_rs.validator_for(schema).iter_errors(json.loads(answer.body))), None)
            assert error is None, f"{told}\n{error}"


def _schema(operation: Operation, answer: Answer) -> dict[str, Any] | None:
    responses = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    described = responses.get(str(answer.status), {}).get("content", {}).get("application/json")
    if described is None or "schema" not in described:
        return None
    return {**described["schema"], "components": DOCUMENT["components"]}


def _pairs(query: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    for key, value in (query or {}).items():
        for one in value if isinstance(value, list) else [value]:
            text = one if isinstance(one, str) else json.dumps(one)
            if key == "t" and re.fullmatch(r"-?\d{1,9}", text):
                # A program that has only just begun misses the signal, as with Docker: then nobody waits a day for it.
                text = str(abs(int(text)) % 3)
            yield key, text.encode("utf-8", "replace").decode()


def _is_sendable(key: str, value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and key.isascii()
