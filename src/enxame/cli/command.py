"""Commands and groups on click, with docker's flag grammar, usage errors and help pages.

A command's function takes ``(cli, flags, args)``: the open connection to the daemon, the parsed flags, the positional
arguments.
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from enxame.cli.errors import UsageError
from enxame.cli.flags import UNFINISHED, Value, parse_flags, render_options

if TYPE_CHECKING:
    from enxame.cli.session import Session

Args = tuple[str, ...]


class Flags(Mapping[str, Any]):
    """Values of flags by their long names (``flags["update-delay"]``)."""

    def __init__(self, values: dict[str, Any], given: frozenset[str]) -> None:
        self._values = values
        self._given = given

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def changed(self, *names: str) -> bool:
        """True when any of these flags stood on the command line."""
        return any(name in self._given for name in names)

    @property
    def given(self) -> frozenset[str]:
        """Long names of all flags that stood on the command line."""
        return self._given


Run = Callable[["Session", Flags, Args], None]
#: (minimum, maximum) count of positional arguments; a maximum of -1 is "any".
Count = tuple[int, int]


class Command(click.Command):
    """One verb.

    ``usage`` is what follows its path in the usage line; ``interspersed`` False makes the first positional argument the
    end of the flags (``run IMAGE COMMAND --its-own-flags``); ``completes`` names the kind of object its arguments are.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        usage: str,
        summary: str,
        flags: Sequence[click.Option] = (),
        count: Count = (0, 0),
        interspersed: bool = True,
        aliases: Sequence[str] = (),
        completes: str = "",
    ) -> None:
        super().__init__(name, params=[*flags, _HELP], short_help=summary, help=summary, add_help_option=False)
        self.run = run
        self.usage = usage
        self.summary = summary
        self.count = count
        self.interspersed = interspersed
        self.aliases = tuple(aliases)
        self.completes = completes

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the flags; what is left are positional words."""
        options = [param for param in self.params if isinstance(param, click.Option)]
        values, rest = parse_flags(options, args, ctx, interspersed=self.interspersed)
        if "help" in values and not ctx.resilient_parsing:
            click.echo(self.get_help(ctx))
            ctx.exit()
        for option in options:
            option.handle_parse_result(ctx, values, rest)
        ctx.args = rest
        ctx.meta["given"] = frozenset(_long(o) for o in options if o.name in values)
        if not ctx.resilient_parsing:
            self._check_count(ctx, len(rest))
        return rest

    def _check_count(self, ctx: click.Context, found: int) -> None:
        low, high = self.count
        if low <= found and (high < 0 or found <= high):
            return
        if high == 0:
            problem = "accepts no arguments."
        elif low == high:
            problem = f"requires exactly {_arguments(low)}."
        elif high < 0 or found < low:
            problem = f"requires at least {_arguments(low)}."
        else:
            problem = f"requires at most {_arguments(high)}."
        tail = f"\nUsage:  {ctx.command_path} {self.usage}\n\n{self.summary}"
        raise UsageError(f'"{ctx.command_path}" {problem}', ctx.command_path, 1, tail)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs what was asked for."""
        names = {_long(p): ctx.params.get(p.name or "") for p in self.params}
        self.run(ctx.obj, Flags(names, ctx.meta["given"]), tuple(ctx.args))

    def get_help(self, ctx: click.Context) -> str:
        """The help page."""
        lines = ["", f"Usage:  {ctx.command_path} {self.usage}".rstrip(), "", self.summary]
        if self.aliases:
            parent = ctx.parent.command_path if ctx.parent else ""
            lines += [
                "",
                "Aliases:",
                "  " + ", ".join(f"{parent} {a}".strip() for a in (self.name or "", *self.aliases)),
            ]
        options = [p for p in self.params if isinstance(p, click.Option) and not p.hidden and p is not _HELP]
        if options:
            lines += ["", "Options:", *render_options(options)]
        return "\n".join(lines)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Flags, what a flag is to have, or names of objects."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        from enxame.cli.complete import complete_objects

        unfinished = ctx.meta.get(UNFINISHED)
        if unfinished is not None and isinstance(unfinished.type, Value):
            return complete_objects(ctx, f"--{unfinished.type.completes}", incomplete, 0)
        return complete_objects(ctx, self.completes, incomplete, len(ctx.args))


def command(
    name: str,
    usage: str,
    summary: str,
    *,
    flags: Sequence[click.Option] = (),
    count: Count = (0, 0),
    interspersed: bool = True,
    aliases: Sequence[str] = (),
    completes: str = "",
) -> Callable[[Run], Command]:
    """Makes a Command of a function."""

    def make(run: Run) -> Command:
        return Command(
            name,
            run,
            usage=usage,
            summary=summary,
            flags=flags,
            count=count,
            interspersed=interspersed,
            aliases=aliases,
            completes=completes,
        )

    return make


class Group(click.Group):
    """A noun: its verbs are named by ``module:attribute`` and imported when they are used."""

    def __init__(
        self, name: str, summary: str, verbs: Mapping[str, str], aliases: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            name, params=[_HELP], short_help=summary, help=summary, add_help_option=False, invoke_without_command=True
        )
        self.summary = summary
        self.verbs = dict(verbs)
        self.aliases = dict(aliases or {})

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names, sorted."""
        return sorted(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now; None for an unknown name."""
        target = self.verbs.get(self.aliases.get(cmd_name, cmd_name))
        return load(target) if target else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the flags; what is left are positional words."""
        values, rest = parse_flags([_HELP], args, ctx, interspersed=False)
        if "help" in values and not ctx.resilient_parsing:
            click.echo(self.get_help(ctx))
            ctx.exit()
        split_command(ctx, rest)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Runs what was asked for."""
        words = subcommand_words(ctx)
        found = self.get_command(ctx, words[0]) if words else None
        if found is None:
            click.echo(self.get_help(ctx), err=bool(words))
            ctx.exit(1 if words else 0)
        with found.make_context(found.name, words[1:], parent=ctx) as inner:
            return inner.command.invoke(inner)

    def get_help(self, ctx: click.Context) -> str:
        """The help page."""
        rows = [
            (name, (self.get_command(ctx, name) or click.Command(name)).get_short_help_str(200))
            for name in self.list_commands(ctx)
        ]
        return "\n".join(
            [
                "",
                f"Usage:  {ctx.command_path} COMMAND",
                "",
                self.summary,
                "",
                "Commands:",
                *two_columns(rows),
                "",
                f"Run '{ctx.command_path} COMMAND --help' for more information on a command.",
            ]
        )


def split_command(ctx: click.Context, rest: list[str]) -> None:
    """Leaves ``rest`` where click (and its completion) looks for the subcommand and its arguments."""
    ctx._protected_args, ctx.args = rest[:1], rest[1:]  # noqa: SLF001


def subcommand_words(ctx: click.Context) -> list[str]:
    """The subcommand's name and its arguments."""
    return [*ctx._protected_args, *ctx.args]  # noqa: SLF001


def load(target: str) -> click.Command:
    """The command at ``module:attribute``."""
    module, _, attribute = target.partition(":")
    found = getattr(importlib.import_module(f"enxame.cli.{module}"), attribute)
    assert isinstance(found, click.Command)
    return found


def two_columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Names and their explanations, aligned."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    return [f"  {name.ljust(width)}{text}".rstrip() for name, text in rows]


def _arguments(number: int) -> str:
    return f"{number} argument{'' if number == 1 else 's'}"


def _long(option: click.Parameter) -> str:
    return next((o.removeprefix("--") for o in option.opts if o.startswith("--")), option.name or "")


_HELP = click.Option(["--help"], is_flag=True, help="Print usage", expose_value=False)


def warn(text: str) -> None:
    """A line for the user on stderr."""
    sys.stderr.write(text + "\n")
