"""What this API offers, as an OpenAPI 3.1 document: made of the routes' declarations and the model's types. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from enxame import API_VERSION, __version__
from enxame.api.routing import Operation
from enxame.model.base import Model, always

_SCALARS: Final[dict[Any, dict[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer", "format": "int64"},
    bool: {"type": "boolean"},
}
#: What objects carry inside the daemon and no answer shows.
_INTERNAL: Final = ("ClusterSecrets", "ServiceInternal", "TaskInternal")
#: What any request may be answered with; 501 where it asks for an option that this daemon has not.
_ANYWHERE: Final = (400, 500, 501)
_REASONS: Final = {
    101: "The connection carries a raw stream from here on",
    304: "It is so already",
    400: "The request is not right",
    401: "The registry refuses the credentials",
    403: "Not allowed",
    404: "No such object",
    409: "The object's state does not allow it",
    500: "The daemon failed",
    501: "Not supported by this daemon",
    503: "This node is not a swarm manager, or the swarm has no leader",
}


class ErrorResponse(Model):
    """Body of every answer with a status of 400 and above."""

    message: str = always(default="", name="message")


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of these operations. Those that are not offered are left out."""
    offered = [operation for operation in operations if operation.offered]
    types = list(dict.fromkeys([ErrorResponse, *_types(offered)]))
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    components = _without_internals(components)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in offered:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Enxame: the Engine API that this daemon serves",
            "version": API_VERSION,
            "description": f"Of enxamed {__version__}. A version may stand before every path: /v{API_VERSION}.",
        },
        "servers": [{"url": "/"}, {"url": f"/v{API_VERSION}"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _without_internals(components: dict[str, Any]) -> dict[str, Any]:
    public = {name: schema for name, schema in components.items() if name not in _INTERNAL}
    for name, schema in public.items():
        shown = {
            key: value
            for key, value in schema.get("properties", {}).items()
            if not any(f"/{hidden}'" in str(value) for hidden in _INTERNAL)
        }
        if "properties" in schema:
            public[name] = {**schema, "properties": shown}
    return public


def _types(operations: Sequence[Operation]) -> Iterator[Any]:
    for operation in operations:
        if operation.body is not None and not isinstance(operation.body, str):
            yield operation.body
        if operation.answer not in (None, bytes):
            yield operation.answer


def _operation(operation: Operation, schema_of: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    collection = operation.path.split("/")[1].removeprefix("_").removesuffix(".json")
    described: dict[str, Any] = {
        "operationId": getattr(operation.handler, "__name__", "operation"),
        "summary": " ".join((inspect.getdoc(operation.handler) or "").split()),
        "tags": [collection],
        "parameters": list(_parameters(operation)),
        "responses": dict(_responses(operation, schema_of)),
    }
    if isinstance(operation.body, str):
        described["requestBody"] = {"content": {operation.body: {}}}
    elif operation.body is not None:
        described["requestBody"] = {
            "content": {"application/json": {"schema": schema_of[operation.body]}},
            "required": True,
        }
    return described


def _parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    if "{name}" in operation.path:
        yield {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    for spelt, kind in operation.query.items():
        name = spelt.removesuffix("*")
        parameter: dict[str, Any] = {"name": name, "in": "query"}
        if name != spelt:
            parameter["required"] = True
        if isinstance(kind, tuple):
            parameter["content"] = {"application/json": {"schema": _filters(kind)}}
        elif kind == list[str]:
            parameter |= {"schema": {"type": "array", "items": _SCALARS[str]}, "style": "form", "explode": True}
        else:
            parameter["schema"] = _SCALARS[kind]
        yield parameter
    for name in operation.headers:
        yield {"name": name, "in": "header", "schema": _SCALARS[str]}


def _filters(names: tuple[str, ...]) -> dict[str, Any]:
    values = {"type": "array", "items": _SCALARS[str]}
    return {"type": "object", "properties": dict.fromkeys(names, values), "additionalProperties": False}


def _responses(operation: Operation, schema_of: dict[Any, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    success: dict[str, Any] = {"description": "It is done" if operation.answer is None else "The answer"}
    if operation.answer is bytes:
        success["content"] = {operation.media: {}}
    elif operation.answer is not None:
        success["content"] = {operation.media: {"schema": schema_of[operation.answer]}}
    yield str(operation.status), success
    for status in sorted({*_ANYWHERE, *operation.errors}):
        failure: dict[str, Any] = {"description": _REASONS[status]}
        if status >= 400:
            failure["content"] = {"application/json": {"schema": schema_of[ErrorResponse]}}
        yield str(status), failure
