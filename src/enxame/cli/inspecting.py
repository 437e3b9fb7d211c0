"""What every ``inspect`` does: asks for objects one by one and prints them as JSON or through a template."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from enxame.cli.errors import CliError, Exit, Unreachable
from enxame.cli.session import Session

Fetch = Callable[[str], Any]


def inspect_objects(cli: Session, references: Iterable[str], fetch: Fetch, template: str = "") -> None:
    """Prints all that are found; what is not found is complained about at the end, with exit code 1."""
    render = _renderer(template)
    found: list[Any] = []
    problems: list[str] = []
    for reference in references:
        try:
            found.append(fetch(reference))
        except Unreachable:
            raise
        except CliError as problem:
            problems.append(problem.message)
    if render is None:
        cli.out.write(json.dumps(found, indent=4, ensure_ascii=False) + "\n" if found else "[]\n")
    else:
        cli.out.writelines(f"{render(item)}\n" for item in found)
        if not found:
            cli.say("")
    for complaint in problems:
        cli.warn(complaint)
    if problems:
        raise Exit(1)


def _renderer(template: str) -> Callable[[Any], str] | None:
    if not template:
        return None
    if template == "json":
        return lambda item: json.dumps(item, ensure_ascii=False, separators=(",", ":"))
    from enxame.cli.gotemplate import Template
    from enxame.cli.typed import typed

    parsed = Template(template)
    return lambda item: parsed.render(typed(item))
