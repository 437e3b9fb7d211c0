"""Flags in docker's grammar (``-it``, ``-p 80:80``, ``--name=x``, ``--detach=false``), and their part of help pages."""

import shutil
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from enxame.cli.errors import UsageError
from enxame.cli.options.numbers import parse_bool

Parse = Callable[[str], Any]
#: Where the context keeps the flag that the last word was, when its value is still to come.
UNFINISHED: Final = "enxame.unfinished"


class Value(click.ParamType):  # type: ignore[type-arg]
    """A flag's type: its name on help pages and a function that raises ValueError with docker's words. ``completes``
    is the kind of object that shells complete it to, by default that of the type's name.
    """

    def __init__(self, name: str, parse: Parse, completes: str = "") -> None:
        self.name = name
        self._parse = parse
        self.completes = completes or name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The parsed value. Raises UsageError."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as problem:
            names = ", ".join(sorted(param.opts, key=len)) if param else ""
            path = ctx.command_path if ctx else ""
            raise UsageError(f'invalid argument "{value}" for "{names}" flag: {problem}', path) from None


TEXT = Value("string", str)


def _names(name: str) -> list[str]:
    """``"f,filter"`` is ``-f, --filter``."""
    parts = name.split(",")
    return [f"-{part}" if len(part) == 1 else f"--{part}" for part in parts]


def switch(name: str, summary: str, *, default: bool = False, hidden: bool = False) -> click.Option:
    """A flag that is on or off."""
    return click.Option(_names(name), is_flag=True, default=default, help=summary, hidden=hidden)


def text(name: str, summary: str, *, default: str = "", hidden: bool = False, completes: str = "") -> click.Option:
    """A flag with any text; ``completes`` as of :class:`Value`."""
    kind = Value("string", str, completes) if completes else TEXT
    return click.Option(_names(name), type=kind, default=default, help=summary, hidden=hidden)


def value(
    name: str, kind: str, parse: Parse, summary: str, *, default: Any = None, hidden: bool = False
) -> click.Option:
    """A flag whose text is read by ``parse``; ``default`` is a parsed value."""
    return click.Option(_names(name), type=Value(kind, parse), default=default, help=summary, hidden=hidden)


def many(
    name: str, kind: str, summary: str, parse: Parse = str, *, hidden: bool = False, completes: str = ""
) -> click.Option:
    """A flag that may be given several times; its value is a tuple. ``completes`` as of :class:`Value`."""
    return click.Option(_names(name), type=Value(kind, parse, completes), multiple=True, help=summary, hidden=hidden)


def parse_flags(
    options: Sequence[click.Option], args: list[str], ctx: click.Context, *, interspersed: bool
) -> tuple[dict[str, Any], list[str]]:
    """Raw values by parameter name, and the positional arguments. Raises UsageError in pflag's words."""
    parser = _Parser(options, args, ctx)
    parser.run(interspersed=interspersed)
    return parser.values, parser.rest


class _Parser:
    """Takes one word after the other. While a shell completes, unfinished words are no errors."""

    def __init__(self, options: Sequence[click.Option], args: list[str], ctx: click.Context) -> None:
        self.values: dict[str, Any] = {}
        self.rest: list[str] = []
        self._known = {name: option for option in options for name in option.opts}
        self._pending = list(args)
        self._ctx = ctx

    def run(self, *, interspersed: bool) -> None:
        """Takes all words."""
        while self._pending:
            word = self._pending.pop(0)
            if word == "--":
                self.rest += self._pending
                return
            if word.startswith("--"):
                self._long(word)
            elif word.startswith("-") and len(word) > 1:
                self._short(word)
            elif interspersed:
                self.rest.append(word)
            else:
                self.rest += [word, *self._pending]
                return

    def _long(self, word: str) -> None:
        name, given, raw = word.partition("=")
        option = self._known.get(name)
        if option is None:
            self._refuse(f"unknown flag: {name}")
        elif option.is_flag:
            self._store(option, self._switch(option, raw) if given else True)
        else:
            self._store(option, raw if given else self._follow(option, name))

    def _short(self, word: str) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            option = self._known.get(f"-{letter}")
            if option is None:
                self._refuse(f"unknown shorthand flag: '{letter}' in {word}")
                return
            if not option.is_flag:
                raw = letters.removeprefix("=") if letters else self._follow(option, f"'{letter}' in {word}")
                self._store(option, raw)
                return
            if letters.startswith("="):
                self._store(option, self._switch(option, letters[1:]))
                return
            self._store(option, True)

    def _store(self, option: click.Option, raw: Any) -> None:
        key = option.name or ""
        if option.multiple:
            self.values.setdefault(key, []).append(raw)
        else:
            self.values[key] = raw

    def _switch(self, option: click.Option, raw: str) -> bool:
        try:
            return parse_bool(raw)
        except ValueError as problem:
            names = _shown(option)
            raise UsageError(
                f'invalid argument "{raw}" for "{names}" flag: {problem}', self._ctx.command_path
            ) from None

    def _follow(self, option: click.Option, missing: str) -> str:
        if self._pending:
            return self._pending.pop(0)
        self._ctx.meta[UNFINISHED] = option
        self._refuse(f"flag needs an argument: {missing}")
        return ""

    def _refuse(self, problem: str) -> None:
        if not self._ctx.resilient_parsing:
            raise UsageError(problem, self._ctx.command_path)


def _shown(option: click.Option) -> str:
    return ", ".join(sorted(option.opts, key=len))


def render_options(options: Sequence[click.Option]) -> list[str]:
    """The lines of a help page's "Options:", sorted by long name, wrapped to the terminal."""
    rows = []
    for option in sorted(options, key=lambda o: max(o.opts, key=len)):
        long = max(option.opts, key=len)
        short = min(option.opts, key=len) + ", " if len(option.opts) > 1 else "    "
        kind = "" if option.is_flag else f" {option.type.name}"
        default = option.default
        shown = ""
        if not option.is_flag and not option.multiple and isinstance(default, (str, int, float)) and default:
            shown = f' (default "{default}")' if isinstance(default, str) else f" (default {default})"
        elif option.is_flag and default is True:
            shown = " (default true)"
        rows.append(
            (
                f"{short if len(option.opts) > 1 or long.startswith('--') else ''}{long}{kind}",
                (option.help or "") + shown,
            )
        )
    width = max(len(left) for left, _ in rows) + 3
    columns = max(shutil.get_terminal_size((80, 24)).columns, 60)
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, max(columns - width - 2, 24)) or [""]
        lines.append(f"  {left.ljust(width)}{wrapped[0]}".rstrip())
        lines += [" " * (width + 2) + line for line in wrapped[1:]]
    return lines
