"""Flags with docker's grammar: ``-it``, ``-p 80:80``, ``--name=x``, ``--detach=false``; and their part of a help page."""

import shutil
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import click

from enxame.cli.errors import UsageError
from enxame.cli.options.numbers import parse_bool

Parse = Callable[[str], Any]


class Value(click.ParamType):  # type: ignore[type-arg]
    """A flag's type: its name on help pages and a function that raises ValueError with docker's words."""

    def __init__(self, name: str, parse: Parse) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
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


def text(name: str, summary: str, *, default: str = "", hidden: bool = False) -> click.Option:
    """A flag with any text."""
    return click.Option(_names(name), type=TEXT, default=default, help=summary, hidden=hidden)


def value(
    name: str, kind: str, parse: Parse, summary: str, *, default: Any = None, hidden: bool = False
) -> click.Option:
    """A flag whose text is read by ``parse``; ``default`` is a parsed value."""
    return click.Option(_names(name), type=Value(kind, parse), default=default, help=summary, hidden=hidden)


def many(name: str, kind: str, summary: str, parse: Parse = str, *, hidden: bool = False) -> click.Option:
    """A flag that may be given several times; its value is a tuple."""
    return click.Option(_names(name), type=Value(kind, parse), multiple=True, help=summary, hidden=hidden)


def parse_flags(
    options: Sequence[click.Option], args: list[str], ctx: click.Context, *, interspersed: bool
) -> tuple[dict[str, Any], list[str]]:
    """Raw values by parameter name, and the positional arguments. Raises UsageError in pflag's words."""
    known = {name: option for option in options for name in option.opts}
    values: dict[str, Any] = {}
    rest: list[str] = []
    pending = list(args)

    def store(option: click.Option, raw: Any) -> None:
        key = option.name or ""
        if option.multiple:
            values.setdefault(key, []).append(raw)
        else:
            values[key] = raw

    def flag(option: click.Option, shown: str, raw: str) -> bool:
        try:
            return parse_bool(raw)
        except ValueError as problem:
            raise UsageError(f'invalid argument "{raw}" for "{shown}" flag: {problem}', ctx.command_path) from None

    def follow(option: click.Option, missing: str) -> str:
        if not pending:
            if ctx.resilient_parsing:
                return ""
            raise UsageError(f"flag needs an argument: {missing}", ctx.command_path)
        return pending.pop(0)

    while pending:
        word = pending.pop(0)
        if word == "--":
            rest += pending
            break
        if word.startswith("--"):
            name, given, raw = word.partition("=")
            option = known.get(name)
            if option is None:
                if ctx.resilient_parsing:
                    continue
                raise UsageError(f"unknown flag: {name}", ctx.command_path)
            if option.is_flag:
                store(option, flag(option, _shown(option), raw) if given else True)
            else:
                store(option, raw if given else follow(option, name))
        elif word.startswith("-") and len(word) > 1:
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                option = known.get(f"-{letter}")
                if option is None:
                    if ctx.resilient_parsing:
                        break
                    raise UsageError(f"unknown shorthand flag: '{letter}' in {word}", ctx.command_path)
                if option.is_flag:
                    if letters.startswith("="):
                        store(option, flag(option, _shown(option), letters[1:]))
                        break
                    store(option, True)
                else:
                    store(option, letters.removeprefix("=") if letters else follow(option, f"'{letter}' in {word}"))
                    break
        elif interspersed:
            rest.append(word)
        else:
            rest += [word, *pending]
            break
    return values, rest


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
