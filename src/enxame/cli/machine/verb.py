"""Commands on machines: errors of machines become the command's."""

from collections.abc import Callable, Sequence

import click

from enxame.cli.command import Args, Command, Count, Flags, Run
from enxame.cli.errors import CliError
from enxame.cli.session import Session


def machine_command(
    name: str,
    usage: str,
    summary: str,
    *,
    flags: Sequence[click.Option] = (),
    count: Count = (0, 0),
    interspersed: bool = True,
    completes: str = "machine",
) -> Callable[[Run], Command]:
    """Makes a Command of a function that may raise MachineError."""

    def make(run: Run) -> Command:
        def guarded(cli: Session, values: Flags, args: Args) -> None:
            from enxame.machine.errors import MachineError

            try:
                run(cli, values, args)
            except MachineError as problem:
                raise CliError(problem.message, problem.code) from None

        return Command(
            name,
            guarded,
            usage=usage,
            summary=summary,
            flags=flags,
            count=count,
            interspersed=interspersed,
            completes=completes,
        )

    return make
