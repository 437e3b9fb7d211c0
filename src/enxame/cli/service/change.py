"""``enxame service rm``, ``service scale``, ``service rollback``."""

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.each import each
from enxame.cli.errors import CliError, DaemonError, Exit
from enxame.cli.flags import switch
from enxame.cli.options.numbers import parse_uint
from enxame.cli.session import Session


@command(
    "rm", "SERVICE [SERVICE...]", "Remove one or more services", count=(1, -1), aliases=("remove",), completes="service"
)
def rm(cli: Session, flags: Flags, args: Args) -> None:
    """Removes services and prints their names as given."""
    each(cli, args, lambda name: cli.client.delete(f"/services/{quoted(name)}"))


@command(
    "scale",
    "SERVICE=REPLICAS [SERVICE=REPLICAS...]",
    "Scale one or multiple replicated services",
    flags=[switch("d,detach", "Exit immediately instead of waiting for the service to converge")],
    count=(1, -1),
    completes="scale",
)
def scale(cli: Session, flags: Flags, args: Args) -> None:
    """Sets numbers of replicas."""
    wanted: list[tuple[str, int]] = []
    for text in args:
        name, separator, number = text.partition("=")
        if not separator:
            raise CliError(f"invalid scale specifier '{text}'.\nSee 'enxame service scale --help'.")
        try:
            wanted.append((name, parse_uint(number)))
        except ValueError as problem:
            raise CliError(f"{name}: invalid replicas value {number}: {problem}") from None
    problems, scaled = [], []
    for name, replicas in wanted:
        try:
            _scale(cli, name, replicas)
            cli.say(f"{name} scaled to {replicas}")
            scaled.append(name)
        except (DaemonError, CliError) as problem:
            problems.append(f"{name}: {problem.message}")
    if not flags["detach"]:
        from enxame.cli.service.progress import wait_for_service

        for name in scaled:
            try:
                wait_for_service(cli, name)
            except CliError as problem:
                problems.append(f"{name}: {problem.message}")
    if problems:
        cli.warn("\n".join(problems))
        raise Exit(1)


def _scale(cli: Session, name: str, replicas: int) -> None:
    service = cli.client.get(f"/services/{quoted(name)}", {"insertDefaults": "false"})
    mode = service["Spec"]["Mode"]
    if "Replicated" in mode:
        mode["Replicated"] = {**(mode["Replicated"] or {}), "Replicas": replicas}
    elif "ReplicatedJob" in mode:
        mode["ReplicatedJob"] = {**(mode["ReplicatedJob"] or {}), "TotalCompletions": replicas}
    else:
        raise CliError("scale can only be used with replicated or replicated-job mode")
    answer = cli.client.post(
        f"/services/{service['ID']}/update", service["Spec"], {"version": service["Version"]["Index"]}
    )
    for warning in (answer or {}).get("Warnings") or []:
        cli.warn(warning)


@command(
    "rollback",
    "[OPTIONS] SERVICE",
    "Revert changes to a service's configuration",
    flags=[
        switch("d,detach", "Exit immediately instead of waiting for the service to converge"),
        switch("q,quiet", "Suppress progress output"),
    ],
    count=(1, 1),
    completes="service",
)
def rollback(cli: Session, flags: Flags, args: Args) -> None:
    """Goes back to the previous specification."""
    service = cli.client.get(f"/services/{quoted(args[0])}", {"insertDefaults": "false"})
    answer = cli.client.post(
        f"/services/{service['ID']}/update",
        service["Spec"],
        {"version": service["Version"]["Index"], "rollback": "previous"},
    )
    for warning in (answer or {}).get("Warnings") or []:
        cli.warn(warning)
    cli.say(args[0])
    if not flags["detach"]:
        from enxame.cli.service.progress import wait_for_service

        wait_for_service(cli, args[0], quiet=flags["quiet"])
