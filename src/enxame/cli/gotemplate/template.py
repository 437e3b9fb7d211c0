"""Renders parsed templates over decoded JSON (or rows of tables)."""

from collections.abc import Callable, Mapping
from typing import Any

from enxame.cli.errors import BadTemplate
from enxame.cli.gotemplate.functions import FUNCTIONS, FunctionError
from enxame.cli.gotemplate.lexer import Text
from enxame.cli.gotemplate.parser import Block, Call, Dot, FieldOf, Jump, Literal, Node, Operand, Pipe, Variable, parse
from enxame.cli.gotemplate.values import NO_VALUE, format_value, truth

Functions = Mapping[str, Callable[..., Any]]


class _Leave(Exception):
    """``break`` (or ``continue``) inside ``range``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Template:
    """One parsed template. Raises BadTemplate (exit code 64) when it does not parse."""

    def __init__(self, source: str) -> None:
        self._nodes = parse(source, frozenset(FUNCTIONS))

    def render(self, data: Any, *, functions: Functions = FUNCTIONS) -> str:
        """The text of the template over ``data``. Raises BadTemplate (exit code 1)."""
        run = _Run(data, functions)
        run.nodes(self._nodes, data)
        return "".join(run.out)


class _Run:
    def __init__(self, root: Any, functions: Functions) -> None:
        self.out: list[str] = []
        self._functions = functions
        self._scopes: list[dict[str, Any]] = [{"$": root}]

    def nodes(self, nodes: list[Node], dot: Any) -> None:
        for node in nodes:
            if isinstance(node, Text):
                self.out.append(node.text)
            elif isinstance(node, Pipe):
                value = self._pipe(node, dot)
                if not node.declares:
                    self._print(node, value)
            elif isinstance(node, Jump):
                raise _Leave(node.kind)
            else:
                self._block(node, dot)

    def _print(self, pipe: Pipe, value: Any) -> None:
        if value is NO_VALUE:
            last = pipe.commands[-1]
            if isinstance(last, FieldOf):
                raise BadTemplate(f'{last.where}: map has no entry for key "{last.name}"')
            value = "<no value>"
        self.out.append(format_value(value))

    def _block(self, block: Block, dot: Any) -> None:
        self._scopes.append({})
        try:
            value = self._pipe(block.pipe, dot)
            if block.kind == "range":
                self._range(block, value, dot)
            elif truth(value):
                self.nodes(block.body, value if block.kind == "with" else dot)
            else:
                self.nodes(block.otherwise, dot)
        finally:
            self._scopes.pop()

    def _range(self, block: Block, value: Any, dot: Any) -> None:
        items: list[tuple[Any, Any]]
        if value is None or value is NO_VALUE:
            items = []
        elif isinstance(value, Mapping):
            items = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, (list, tuple)):
            items = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            items = [(i, i) for i in range(value)]
        else:
            raise BadTemplate(f"template: :1: range can't iterate over {format_value(value)}")
        if not items:
            self.nodes(block.otherwise, dot)
        names = block.pipe.declares
        for key, item in items:
            self._scopes.append(
                dict(zip(names, (key, item), strict=True)) if len(names) == 2 else dict.fromkeys(names, item)
            )
            try:
                self.nodes(block.body, item)
            except _Leave as leave:
                if leave.kind == "break":
                    return
            finally:
                self._scopes.pop()

    def _pipe(self, pipe: Pipe, dot: Any) -> Any:
        value: Any = NO_VALUE
        for position, command in enumerate(pipe.commands):
            value = self._value(command, dot, (value,) if position else ())
        if pipe.assigns:
            for scope in reversed(self._scopes):
                if pipe.declares[0] in scope:
                    scope[pipe.declares[0]] = value
                    break
        else:
            for name in pipe.declares[:1] if len(pipe.declares) == 1 else ():
                self._scopes[-1][name] = value
        return value

    def _value(self, operand: Operand, dot: Any, extra: tuple[Any, ...] = ()) -> Any:
        match operand:
            case Literal(value):
                return value
            case Dot():
                return dot
            case Variable(name):
                return next((scope[name] for scope in reversed(self._scopes) if name in scope), NO_VALUE)
            case Pipe():
                return self._pipe(operand, dot)
            case Call():
                return self._call(operand, dot, extra)
            case FieldOf():
                return self._field(operand, dot, extra)

    def _call(self, call: Call, dot: Any, extra: tuple[Any, ...]) -> Any:
        if call.name in {"and", "or"}:
            value: Any = NO_VALUE
            for argument in (*call.arguments, *(Literal(e) for e in extra)):
                value = self._value(argument, dot)
                if truth(value) == (call.name == "or"):
                    break
            return value
        arguments = [self._value(argument, dot) for argument in call.arguments]
        try:
            return self._functions[call.name](*arguments, *extra)
        except FunctionError as problem:
            raise BadTemplate(f"{call.where}: error calling {call.name}: {problem}") from None
        except (TypeError, ValueError, AttributeError):
            raise BadTemplate(f"{call.where}: wrong number or kind of args for {call.name}") from None

    def _field(self, field: FieldOf, dot: Any, extra: tuple[Any, ...]) -> Any:
        base = self._value(field.base, dot)
        if base is NO_VALUE or base is None:
            return NO_VALUE
        if not isinstance(base, Mapping):
            raise BadTemplate(f"{field.where}: can't evaluate field {field.name} in type {_type_name(base)}")
        if field.name in base:
            value = base[field.name]
        else:
            value = _other_spelling(base, field.name)
            if value is NO_VALUE and type(base) is not dict:
                raise BadTemplate(f"{field.where}: can't evaluate field {field.name}")
        if callable(value):
            return value(*(self._value(a, dot) for a in field.arguments), *extra)
        if field.arguments or extra:
            raise BadTemplate(f"{field.where}: {field.name} is not a method but has arguments")
        return value


def _other_spelling(base: Mapping[str, Any], name: str) -> Any:
    """Go's field names differ from the JSON's keys in their capitals (``.ID`` is ``Id`` on the wire)."""
    lowered = name.lower()
    return next((base[key] for key in base if isinstance(key, str) and key.lower() == lowered), NO_VALUE)


def _type_name(value: Any) -> str:
    return {str: "string", bool: "bool", int: "int", float: "float64", list: "slice"}.get(
        type(value), type(value).__name__
    )
