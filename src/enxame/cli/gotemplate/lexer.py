"""Text of a template → pieces of text and actions; an action → tokens."""

import re
from dataclasses import dataclass
from typing import Final

from enxame.cli.errors import BadTemplate


@dataclass(frozen=True)
class Text:
    """Literal text."""

    text: str


@dataclass(frozen=True)
class Token:
    """One word of an action. ``kind``: string, char, number, field, variable, name, or the punctuation itself."""

    kind: str
    text: str
    column: int


@dataclass(frozen=True)
class Action:
    """What stands between ``{{`` and ``}}``."""

    tokens: tuple[Token, ...]
    line: int


_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<string>"(?:\\.|[^"\\\n])*")
  | (?P<raw>`[^`]*`)
  | (?P<char>'(?:\\.|[^'\\\n])+')
  | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+))
  | (?P<variable>\$\w*)
  | (?P<field>\.\w+)
  | (?P<dot>\.)
  | (?P<name>[^\W\d]\w*)
  | (?P<declare>:=)
  | (?P<punct>[|(),=])
    """,
    re.VERBOSE,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def split(source: str) -> list[Text | Action]:
    """Text and actions in order; comments are gone, ``{{-`` and ``-}}`` have trimmed their neighbours."""
    pieces: list[Text | Action] = []
    position, trim_next = 0, False
    while position < len(source):
        start = source.find("{{", position)
        text = source[position:] if start < 0 else source[position:start]
        if trim_next:
            text = text.lstrip()
        trim_next = False
        if start < 0:
            pieces.append(Text(text))
            break
        line = source.count("\n", 0, start) + 1
        body = start + 2
        if source[body : body + 1] == "-" and source[body + 1 : body + 2].isspace():
            text, body = text.rstrip(), body + 1
        if text:
            pieces.append(Text(text))
        stripped = body + len(source[body:]) - len(source[body:].lstrip())
        if source.startswith("/*", stripped):
            end = source.find("*/", stripped)
            if end < 0:
                raise BadTemplate(f"template: :{line}: unclosed comment", 64)
            close = re.compile(r"\s*(-)?\}\}").match(source, end + 2)
            if close is None:
                raise BadTemplate(f"template: :{line}: comment ends before closing delimiter", 64)
            trim_next, position = bool(close[1]), close.end()
            continue
        tokens, position, trim_next = _tokens(source, body, line)
        pieces.append(Action(tokens, line))
    return pieces


def _tokens(source: str, position: int, line: int) -> tuple[tuple[Token, ...], int, bool]:
    """Tokens up to the closing delimiter, where the text goes on, and whether it is to be trimmed."""
    found: list[Token] = []
    line_start = source.rfind("\n", 0, position) + 1
    depth = 0
    while True:
        if source.startswith("}}", position):
            if depth:
                raise BadTemplate(f"template: :{line}: unclosed left paren", 64)
            return tuple(found), position + 2, False
        trimmed = re.compile(r"\s-\}\}").match(source, position)
        if trimmed:
            return tuple(found), trimmed.end(), True
        if position >= len(source):
            raise BadTemplate(f"template: :{line}: unclosed action", 64)
        match = _TOKEN.match(source, position)
        if match is None:
            letter = source[position]
            if letter in "\"'`":
                raise BadTemplate(f"template: :{line}: unterminated quoted string", 64)
            raise BadTemplate(f"template: :{line}: bad character U+{ord(letter):04X} '{letter}'", 64)
        kind = match.lastgroup or ""
        text = match.group()
        depth += (text == "(") - (text == ")")
        if depth < 0:
            raise BadTemplate(f"template: :{line}: unexpected right paren", 64)
        if kind == "space":
            found.append(Token("space", text, position - line_start)) if found and found[-1].kind != "space" else None
        else:
            found.append(Token(text if kind in {"punct", "declare"} else kind, text, position - line_start))
        position = match.end()


def unquote(token: Token, line: int) -> str:
    """The value of a string token."""
    if token.kind == "raw":
        return token.text[1:-1]
    out: list[str] = []
    body = token.text[1:-1]
    index = 0
    while index < len(body):
        letter = body[index]
        if letter != "\\":
            out.append(letter)
            index += 1
            continue
        code = body[index + 1]
        if code in _ESCAPES:
            out.append(_ESCAPES[code])
            index += 2
        elif code in "\\\"'":
            out.append(code)
            index += 2
        elif code in "xuU":
            digits = {"x": 2, "u": 4, "U": 8}[code]
            try:
                out.append(chr(int(body[index + 2 : index + 2 + digits], 16)))
            except ValueError:
                raise BadTemplate(f"template: :{line}: invalid syntax in {token.text}", 64) from None
            index += 2 + digits
        else:
            raise BadTemplate(f"template: :{line}: invalid syntax in {token.text}", 64)
    return "".join(out)
