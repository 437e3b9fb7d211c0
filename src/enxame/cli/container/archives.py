"""What leaves a container as a whole: ``export`` and ``commit``."""

import os
from collections.abc import Iterable

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError
from enxame.cli.flags import many, switch, text
from enxame.cli.images import checked, split_reference
from enxame.cli.session import Session

Value = str | int | bool | list[str] | None


def _write(path: str, chunks: Iterable[bytes]) -> None:
    """All of it or nothing: an interrupted one leaves no file. Raises CliError."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            for data in chunks:
                file.write(data)
        os.replace(part, path)
    except OSError as problem:
        raise CliError(f"failed to export container: {path}: {(problem.strerror or '').lower()}") from None
    finally:
        if os.path.exists(part):
            os.unlink(part)


@command(
    "export",
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    flags=[text("o,output", "Write to a file, instead of STDOUT")],
    count=(1, 1),
    completes="container",
)
def export(cli: Session, flags: Flags, args: Args) -> None:
    """Writes the container's files as a tar."""
    if not flags["output"] and cli.out_is_terminal():
        raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    with cli.client.stream("GET", f"/containers/{quoted(args[0])}/export") as stream:
        if flags["output"]:
            _write(flags["output"], stream.chunks())
            return
        for data in stream.chunks():
            cli.out.buffer.write(data)
        cli.out.buffer.flush()


@command(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    flags=[
        switch("p,pause", "Pause container during commit", default=True),
        text("m,message", "Commit message"),
        text("a,author", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        many("c,change", "list", "Apply Dockerfile instruction to the created image"),
    ],
    count=(1, 2),
    completes="container",
)
def commit(cli: Session, flags: Flags, args: Args) -> None:
    """Makes an image of the container and prints its id."""
    query: dict[str, Value] = {
        "author": flags["author"],
        "changes": list(flags["change"]),
        "comment": flags["message"],
        "container": args[0],
        "repo": "",
        "tag": "",
    }
    if len(args) > 1:
        name, tag, digest = split_reference(checked(args[1]))
        if digest:
            raise CliError("cannot commit to digest reference")
        query |= {"repo": name, "tag": tag or "latest"}
    if not flags["pause"]:
        query["pause"] = "0"
    answer = cli.client.call("POST", "/commit", query) or {}
    cli.say(answer.get("Id") or answer.get("ID") or "")
