"""Pieces of a template → a tree of nodes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from enxame.cli.errors import BadTemplate
from enxame.cli.gotemplate.lexer import Action, Text, Token, split, unquote


@dataclass(frozen=True)
class Literal:
    """A constant."""

    value: Any


@dataclass(frozen=True)
class Dot:
    """The current value."""


@dataclass(frozen=True)
class Variable:
    """``$x``; ``$`` is the outermost value."""

    name: str


@dataclass(frozen=True)
class Call:
    """A function with its arguments."""

    name: str
    arguments: tuple["Operand", ...]
    where: str


@dataclass(frozen=True)
class FieldOf:
    """``.Name`` of a value; arguments only where the field is a method."""

    base: "Operand"
    name: str
    where: str
    arguments: tuple["Operand", ...] = ()


@dataclass(frozen=True)
class Pipe:
    """Commands joined by ``|``: each gets the former's value as its last argument."""

    commands: tuple["Operand", ...]
    declares: tuple[str, ...] = ()
    assigns: bool = False


Operand = Literal | Dot | Variable | Call | FieldOf | Pipe


@dataclass
class Block:
    """``if``, ``with`` or ``range`` with its two bodies."""

    kind: str
    pipe: Pipe
    body: list["Node"] = field(default_factory=list)
    otherwise: list["Node"] = field(default_factory=list)


@dataclass(frozen=True)
class Jump:
    """``break`` or ``continue``."""

    kind: str


Node = Text | Pipe | Block | Jump


def parse(source: str, functions: frozenset[str]) -> list[Node]:
    """The nodes of a template. Raises BadTemplate with Go's words."""
    return _Parser(source, functions).parse()


class _Parser:
    def __init__(self, source: str, functions: frozenset[str]) -> None:
        self._pieces: Iterator[Text | Action] = iter(split(source))
        self._functions = functions
        self._line = 1
        self._variables = ["$"]

    def parse(self) -> list[Node]:
        nodes, end = self._nodes()
        if end:
            self._fail(f"unexpected {{{{{end}}}}}")
        return nodes

    def _fail(self, problem: str) -> NoReturn:
        raise BadTemplate(f"template: :{self._line}: {problem}", 64)

    def _nodes(self) -> tuple[list[Node], str]:
        """Nodes up to ``end`` or ``else…`` of the surrounding block; and which of them it was."""
        nodes: list[Node] = []
        for piece in self._pieces:
            if isinstance(piece, Text):
                nodes.append(piece)
                continue
            self._line = piece.line
            tokens = [t for t in piece.tokens if t.kind != "space" or t is not piece.tokens[-1]]
            if not tokens:
                self._fail("missing value for command")
            word = tokens[0].text if tokens[0].kind == "name" else ""
            if word in {"end", "else"}:
                return nodes, " ".join(t.text for t in tokens if t.kind != "space") if word == "else" else "end"
            if word in {"if", "with", "range"}:
                nodes.append(self._block(word, tokens[1:]))
            elif word in {"break", "continue"}:
                nodes.append(Jump(word))
            elif word in {"define", "template", "block"}:
                self._fail(f"{word} is not supported here")
            else:
                nodes.append(_Expression(tokens, self._functions, self._variables, piece.line).pipeline())
        return nodes, ""

    def _block(self, kind: str, tokens: list[Token]) -> Block:
        depth = len(self._variables)
        pipe = _Expression(tokens, self._functions, self._variables, self._line, ranging=kind == "range").pipeline()
        block = Block(kind, pipe)
        block.body, end = self._nodes()
        if end.startswith("else "):
            # ``else if`` is an ``if`` inside the ``else`` that shares its ``end``.
            inner = _retokenise(end.removeprefix("else "))
            block.otherwise = [self._block(inner[0].text, inner[1:])]
        elif end == "else":
            block.otherwise, end = self._nodes()
            if end != "end":
                self._fail(f"expected end; found {{{{{end}}}}}" if end else "unexpected EOF")
        elif end != "end":
            self._fail("unexpected EOF")
        del self._variables[depth:]
        return block


def _retokenise(text: str) -> list[Token]:
    action = split("{{" + text + "}}")[0]
    assert isinstance(action, Action)
    return list(action.tokens)


class _Expression:
    """Recursive descent over one action's tokens."""

    def __init__(
        self, tokens: list[Token], functions: frozenset[str], variables: list[str], line: int, *, ranging: bool = False
    ) -> None:
        self._tokens = tokens
        self._at = 0
        self._functions = functions
        self._variables = variables
        self._line = line
        self._ranging = ranging

    def _fail(self, problem: str) -> NoReturn:
        raise BadTemplate(f"template: :{self._line}: {problem}", 64)

    def _peek(self, *, spaces: bool = False) -> Token | None:
        if not spaces:
            while self._at < len(self._tokens) and self._tokens[self._at].kind == "space":
                self._at += 1
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> Token | None:
        token = self._peek()
        self._at += 1
        return token

    def pipeline(self, *, nested: bool = False) -> Pipe:
        declares, assigns = ((), False) if nested else self._declarations()
        commands = [self._command()]
        while (token := self._peek()) is not None and token.kind == "|":
            self._at += 1
            commands.append(self._command())
        if token is not None and not (nested and token.kind == ")"):
            self._fail(f"unexpected <{token.text}> in command")
        for earlier in commands[1:]:
            if not isinstance(earlier, (Call, FieldOf)):
                self._fail("non executable command in pipeline stage 2")
        return Pipe(tuple(commands), declares, assigns)

    def _declarations(self) -> tuple[tuple[str, ...], bool]:
        words = [t for t in self._tokens if t.kind != "space"]
        for count in (1, 2):
            width = 2 * count - 1
            names = words[:width:2]
            if len(words) <= width or any(t.kind != "variable" for t in names):
                return (), False
            if count == 2 and (words[1].kind != "," or not self._ranging):
                return (), False
            if words[width].kind in {":=", "="}:
                while self._next() is not words[width]:
                    continue
                declared = tuple(t.text for t in names)
                if words[width].kind == ":=":
                    self._variables += declared
                return declared, words[width].kind == "="
        return (), False

    def _command(self) -> Operand:
        token = self._peek()
        if token is None or token.kind in {"|", ")"}:
            self._fail("missing value for command")
        if token.kind == "name" and token.text not in {"true", "false", "nil"}:
            self._at += 1
            if token.text not in self._functions:
                self._fail(f'function "{token.text}" not defined')
            return Call(token.text, self._arguments(), self._where(token, token.text))
        operand = self._operand()
        arguments = self._arguments()
        if arguments:
            if isinstance(operand, FieldOf):
                return FieldOf(operand.base, operand.name, operand.where, arguments)
            self._fail(f"can't give argument to non-function {token.text}")
        return operand

    def _arguments(self) -> tuple[Operand, ...]:
        found: list[Operand] = []
        while (token := self._peek()) is not None and token.kind not in {"|", ")"}:
            found.append(self._operand())
        return tuple(found)

    def _operand(self) -> Operand:
        token = self._next()
        assert token is not None
        operand: Operand
        shown = token.text
        match token.kind:
            case "string" | "raw":
                operand = Literal(unquote(token, self._line))
            case "char":
                operand = Literal(ord(unquote(token, self._line)[:1] or "\0"))
            case "number":
                operand = Literal(_number(token.text))
            case "dot":
                operand = Dot()
            case "field":
                operand = FieldOf(Dot(), token.text[1:], self._where(token, token.text))
            case "variable":
                if token.text not in self._variables:
                    self._fail(f'undefined variable "{token.text}"')
                operand = Variable(token.text)
            case "(":
                operand = self.pipeline(nested=True)
                self._next()
            case "name":
                if token.text in {"true", "false", "nil"}:
                    operand = Literal({"true": True, "false": False, "nil": None}[token.text])
                elif token.text in self._functions:
                    operand = Call(token.text, (), self._where(token, token.text))
                else:
                    self._fail(f'function "{token.text}" not defined')
            case _:
                self._fail(f"unexpected <{token.text}> in operand")
        while (following := self._peek(spaces=True)) is not None and following.kind == "field":
            self._at += 1
            shown += following.text
            operand = FieldOf(operand, following.text[1:], self._where(token, shown))
        return operand

    def _where(self, token: Token, shown: str) -> str:
        return f'template: :{self._line}:{token.column}: executing "" at <{shown}>'


def _number(text: str) -> int | float:
    try:
        return int(text, 0)
    except ValueError:
        return float(text)
