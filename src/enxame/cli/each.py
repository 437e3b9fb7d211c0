"""Verbs that do the same to several objects."""

from collections.abc import Callable, Iterable

from enxame.cli.errors import CliError, Unreachable
from enxame.cli.session import Session


def each(cli: Session, names: Iterable[str], act: Callable[[str], object]) -> None:
    """Does something with each and prints its name; what went wrong with some is told at the end (CliError)."""
    problems = []
    for name in names:
        try:
            act(name)
        except Unreachable:
            raise
        except CliError as problem:
            problems.append(problem.message)
        else:
            cli.say(name)
    if problems:
        raise CliError("\n".join(problems))
