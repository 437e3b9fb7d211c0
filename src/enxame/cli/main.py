"""The ``enxame`` command: entry point, global flags, and the one place where errors become text and exit codes."""

import os
import sys
from typing import Any, Final

import click

from enxame import __version__
from enxame.cli.command import load, split_command, subcommand_words, two_columns
from enxame.cli.errors import CliError, Exit, UsageError
from enxame.cli.flags import many, parse_flags, render_options, switch, text
from enxame.cli.session import Session
from enxame.cli.tree import COMMANDS, HIDDEN, MANAGEMENT

_INTERRUPTED: Final = 130

_GLOBAL_FLAGS: Final = (
    text(
        "c,context",
        "Name of the context to use to connect to the daemon (overrides ENXAME_HOST and DOCKER_HOST env vars and the "
        'context set with "enxame context use")',
    ),
    switch("D,debug", "Enable debug mode"),
    many("H,host", "string", "Daemon socket to connect to"),
    text("l,log-level", 'Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")', default="info"),
    switch("tls", "Use TLS; implied by --tlsverify"),
    text("tlscacert", "Trust certs signed only by this CA"),
    text("tlscert", "Path to TLS certificate file"),
    text("tlskey", "Path to TLS key file"),
    switch("tlsverify", "Use TLS and verify the remote"),
    switch("v,version", "Print version information and quit"),
    switch("help", "Print usage", hidden=True),
)


class Root(click.Group):
    """``enxame`` itself: nouns and short-cuts, each imported when it is used."""

    def __init__(self) -> None:
        super().__init__("enxame", params=list(_GLOBAL_FLAGS), add_help_option=False, invoke_without_command=True)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names, sorted."""
        return sorted({**MANAGEMENT, **COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now; None for an unknown name."""
        entry = MANAGEMENT.get(cmd_name) or COMMANDS.get(cmd_name) or HIDDEN.get(cmd_name)
        return load(entry[0]) if entry else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the flags; what is left are positional words."""
        options = [param for param in self.params if isinstance(param, click.Option)]
        values, rest = parse_flags(options, args, ctx, interspersed=False)
        for option in options:
            option.handle_parse_result(ctx, values, rest)
        split_command(ctx, rest)
        flags = ctx.params
        from enxame.cli.endpoint import tls_files

        tls = tls_files(
            tls=flags["tls"],
            verify=flags["tlsverify"],
            ca=flags["tlscacert"],
            cert=flags["tlscert"],
            key=flags["tlskey"],
        )
        hosts = flags["host"]
        if len(hosts) > 1:
            raise CliError("Please specify only one -H")
        if hosts and flags["context"]:
            raise CliError("conflicting options: cannot specify both --host and --context")
        ctx.obj = Session(hosts[0] if hosts else "", tls, context=flags["context"], debug=flags["debug"])
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Runs what was asked for."""
        words = subcommand_words(ctx)
        if ctx.params["version"]:
            click.echo(f"Enxame version {__version__}")
            return None
        if not words or ctx.params["help"]:
            click.echo(self.get_help(ctx))
            return None
        found = self.get_command(ctx, words[0])
        if found is None:
            raise UsageError(f"enxame: '{words[0]}' is not an enxame command.", "enxame", 1)
        try:
            with found.make_context(words[0], words[1:], parent=ctx) as inner:
                return inner.command.invoke(inner)
        finally:
            ctx.obj.close()

    def get_help(self, ctx: click.Context) -> str:  # noqa: ARG002
        """The help page."""
        options = [p for p in self.params if isinstance(p, click.Option) and not p.hidden]
        return "\n".join(
            [
                "",
                "Usage:  enxame [OPTIONS] COMMAND",
                "",
                "One machine out of many: runs containers and services on a swarm of machines",
                "",
                "Options:",
                *render_options(options),
                "",
                "Management Commands:",
                *two_columns([(name, entry[1]) for name, entry in sorted(MANAGEMENT.items())]),
                "",
                "Commands:",
                *two_columns([(name, entry[1]) for name, entry in sorted(COMMANDS.items())]),
                "",
                "Run 'enxame COMMAND --help' for more information on a command.",
            ]
        )


def run(args: list[str]) -> int:
    """Runs one command line; returns the exit code."""
    root = Root()
    if "_ENXAME_COMPLETE" in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(root, {}, "enxame", "_ENXAME_COMPLETE", os.environ["_ENXAME_COMPLETE"])
    try:
        with root.make_context("enxame", args) as ctx:
            root.invoke(ctx)
            return 1 if ctx.obj.failed else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except Exit as end:
        return end.code
    except UsageError as problem:
        _print_error(problem.message)
        if problem.command_path:
            _print_error(f"See '{problem.command_path} --help'.")
        if problem.tail:
            _print_error(problem.tail)
        return problem.code
    except CliError as problem:
        _print_error(problem.message)
        return problem.code
    except click.ClickException as problem:
        _print_error(problem.format_message())
        return 125


def _print_error(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")


def _quiet_streams() -> None:
    """Nothing more can be written: keeps the interpreter from complaining about it at exit."""
    with open(os.devnull, "wb") as sink:
        for stream in (sys.stdout, sys.stderr):
            try:
                os.dup2(sink.fileno(), stream.fileno())
            except (OSError, ValueError):
                continue


def main() -> None:
    """Console script: never ends in a traceback."""
    debug = "-D" in sys.argv[1:2] or "--debug" in sys.argv[1:2]
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        _quiet_streams()
        code = 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        code = _INTERRUPTED
    except OSError as problem:
        code = 1
        _print_error(f"{problem.strerror or problem}{f': {problem.filename}' if problem.filename else ''}")
    except Exception as problem:
        if debug:
            raise
        code = 1
        _print_error(f"enxame: unexpected error: {type(problem).__name__}: {problem} (run with -D for details)")
    try:
        sys.stdout.flush()
    except OSError:
        _quiet_streams()
    # The interpreter's own tear-down costs as much as a small command: everything is flushed and closed by now.
    sys.stderr.flush()
    os._exit(code)
