"""``enxame run`` and ``enxame create``."""

import os
from typing import Any

from enxame.cli.command import Args, Flags, command
from enxame.cli.container.config import container_request
from enxame.cli.container.flags import container_flags
from enxame.cli.errors import CANNOT_INVOKE_EXIT, NOT_FOUND_EXIT, USAGE_EXIT, CliError, DaemonError, Exit, Unreachable
from enxame.cli.flags import switch, text
from enxame.cli.images import InvalidReference, split_reference, with_tag
from enxame.cli.session import Session

_HINT = "\nSee 'enxame run --help'."


@command(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    flags=container_flags(),
    count=(1, -1),
    interspersed=False,
    completes="image",
)
def create(cli: Session, flags: Flags, args: Args) -> None:
    """Makes a container and prints its id."""
    cli.say(create_container(cli, flags, args, container_request(flags, args[0], list(args[1:]))))


def create_container(cli: Session, flags: Flags, args: Args, request: dict[str, Any]) -> str:
    """The new container's id; its image is pulled as ``--pull`` says. Raises CliError."""
    image = args[0]
    cidfile = _reserve_cidfile(flags["cidfile"])
    try:
        try:
            split_reference(image)
        except InvalidReference as problem:
            if not (len(image) == 64 or image.startswith("sha256:")):
                raise CliError(str(problem), USAGE_EXIT) from None
        query = {"name": flags["name"] or None, "platform": flags["platform"] or None}
        if flags["pull"] == "always":
            _pull(cli, flags, image)
        try:
            answer = cli.client.post("/containers/create", request, query)
        except DaemonError as problem:
            if problem.status != 404 or "no such image" not in problem.detail.lower() or flags["pull"] != "missing":
                raise
            if not flags["quiet"]:
                cli.warn(f"Unable to find image '{with_tag(image)}' locally")
            _pull(cli, flags, image)
            answer = cli.client.post("/containers/create", request, query)
    except BaseException:
        if cidfile:
            os.unlink(cidfile)
        raise
    for warning in answer.get("Warnings") or []:
        cli.warn(f"WARNING: {warning}")
    if cidfile:
        with open(cidfile, "w", encoding="ascii") as file:
            file.write(answer["Id"])
    return str(answer["Id"])


def _reserve_cidfile(path: str) -> str:
    if not path:
        return ""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        raise CliError(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    except OSError as problem:
        raise CliError(
            f"failed to create the container ID file: open {path}: {(problem.strerror or '').lower()}"
        ) from None
    return path


def _pull(cli: Session, flags: Flags, image: str) -> None:
    from enxame.cli.pulling import pull_image

    pull_image(cli, image, platform=flags["platform"], quiet=flags["quiet"], out=cli.err)


@command(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    flags=[
        *container_flags(),
        switch("d,detach", "Run container in background and print container ID"),
        switch("sig-proxy", "Proxy received signals to the process", default=True),
        text("detach-keys", "Override the key sequence for detaching a container"),
    ],
    count=(1, -1),
    interspersed=False,
    completes="image",
)
def run(cli: Session, flags: Flags, args: Args) -> None:
    """Makes a container, starts it, and (without -d) stays joined with it; ends with its exit code."""
    try:
        request = container_request(flags, args[0], list(args[1:]))
        if flags["detach"]:
            if flags["attach"]:
                raise CliError("conflicting options: cannot specify both --attach and --detach")
            request.update(AttachStdin=False, AttachStdout=False, AttachStderr=False, StdinOnce=False)
        elif flags["tty"]:
            from enxame.cli.container.joined import check_terminal
            from enxame.cli.terminal import window_size

            if request["AttachStdin"]:
                check_terminal(tty=True, stdin=True)
            request["HostConfig"]["ConsoleSize"] = list(window_size(1))
        identifier = create_container(cli, flags, args, request)
    except (Unreachable, DaemonError) as problem:
        raise CliError(f"enxame: {problem.message}{_HINT}", USAGE_EXIT) from None
    except Exit:
        raise
    except CliError as problem:
        raise CliError(f"enxame: {problem.message}{_HINT}", USAGE_EXIT) from None
    if flags["detach"]:
        try:
            _start(cli, identifier)
        finally:
            cli.say(identifier)  # it is there, started or not
        return
    code = _run_attached(cli, flags, request, identifier)
    if code:
        raise Exit(code)


def _run_attached(cli: Session, flags: Flags, request: dict[str, Any], identifier: str) -> int:
    from enxame.cli.container.joined import ExitWatch, join_streams, open_attach

    stdin, stdout, stderr = (request[f"Attach{name}"] for name in ("Stdin", "Stdout", "Stderr"))
    try:
        connection = open_attach(
            cli.client, identifier, stdin=stdin, stdout=stdout, stderr=stderr, detach_keys=flags["detach-keys"]
        )
        watch = ExitWatch(cli.client, identifier, "removed" if flags["rm"] else "next-exit")
    except CliError as problem:
        raise CliError(f"enxame: {problem.message}{_HINT}", USAGE_EXIT) from None
    try:
        _start(cli, identifier)
    except CliError:
        watch.close()
        connection.close()
        raise
    detached = join_streams(
        cli,
        connection,
        identifier,
        tty=flags["tty"],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        proxy=flags["sig-proxy"],
        detach_keys=flags["detach-keys"],
    )
    if detached:
        watch.close()
        return 0
    return watch.code()


def _start(cli: Session, identifier: str) -> None:
    try:
        cli.client.post(f"/containers/{identifier}/start")
    except DaemonError as problem:
        raise CliError(f"enxame: {problem.message}", exit_code_of(problem.detail)) from None
    except Unreachable as problem:
        raise CliError(f"enxame: {problem.message}", USAGE_EXIT) from None


def exit_code_of(problem: str) -> int:
    """127 when the command is not there, 126 when it cannot be run, else 125."""
    text_ = problem.lower()
    if any(
        sign in text_
        for sign in ("executable file not found", "no such file or directory", "system cannot find the file specified")
    ):
        return NOT_FOUND_EXIT
    if any(sign in text_ for sign in ("permission denied", "is a directory")):
        return CANNOT_INVOKE_EXIT
    return USAGE_EXIT
