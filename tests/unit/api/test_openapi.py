"""The description says what the handlers do: it is compared with what they read."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from enxame.api.openapi import document
from enxame.api.resources import all_routes
from enxame.api.routing import Operation

OFFERED = [operation for operation in all_routes().operations if operation.offered]
DOCUMENT = document(OFFERED)

_READERS = {"text", "texts", "flag", "integer", "required_integer"}


def _title(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def _read_by(function: Callable[..., Any], seen: set[str]) -> Iterator[str]:
    """What a handler, and whatever it hands its call to, reads of the request: query parameters, ``<body TYPE>``."""
    if function.__qualname__ in seen or not function.__module__.startswith("enxame.api"):
        return
    seen.add(function.__qualname__)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Attribute(value=ast.Name(id="call"), attr=attr):
                if attr == "filters":
                    yield "filters"
                elif attr == "object_version":
                    yield "version"
                elif attr == "body":
                    yield f"<body {ast.unparse(node.args[0])}>"
                elif attr in _READERS and isinstance(node.args[0], ast.Constant):
                    yield node.args[0].value
            case ast.Name(id=name) if any(isinstance(arg, ast.Name) and arg.id == "call" for arg in node.args):
                called = function.__globals__.get(name)
                if inspect.isfunction(called):
                    yield from _read_by(called, seen)
                    if "parameter" in inspect.signature(called).parameters:
                        yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


@pytest.mark.parametrize("operation", OFFERED, ids=_title)
def test_every_parameter_that_a_handler_reads_is_declared(operation: Operation) -> None:
    declared = {name.removesuffix("*") for name in operation.query}
    read = {name for name in _read_by(operation.handler, set()) if not name.startswith("<")}
    assert read <= declared


@pytest.mark.parametrize("operation", OFFERED, ids=_title)
def test_the_body_that_a_handler_reads_is_declared(operation: Operation) -> None:
    read = {name for name in _read_by(operation.handler, set()) if name.startswith("<body")}
    declared = {f"<body {operation.body.__name__}>"} if isinstance(operation.body, type) else set()
    assert read == declared


@pytest.mark.parametrize("operation", OFFERED, ids=_title)
def test_what_is_read_has_an_answer(operation: Operation) -> None:
    assert operation.method != "GET" or operation.answer is not None


def test_all_offered_operations_are_described_and_no_others() -> None:
    described = {f"{method.upper()} {path}" for path, operations in DOCUMENT["paths"].items() for method in operations}
    assert described == {_title(operation) for operation in OFFERED}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def test_every_reference_leads_to_a_schema() -> None:
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(_references(DOCUMENT)) <= known


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def test_what_never_leaves_the_daemon_is_not_described() -> None:
    text = json.dumps(DOCUMENT)
    assert "ServiceInternal" not in text
    assert "ClusterSecrets" not in text


async def test_the_description_is_served(served: Any) -> None:
    answer = await served.json("GET", "/v1.41/openapi.json")
    assert answer["openapi"].startswith("3.")
    assert answer["paths"]["/containers/create"]["post"]["responses"]["201"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/ContainerCreateResponse"}}
    }
