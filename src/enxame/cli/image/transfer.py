"""Images between here and elsewhere: ``pull``, ``push``, ``load``, ``import``, ``save``."""

import sys
from collections.abc import Iterator
from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError
from enxame.cli.flags import many, switch, text
from enxame.cli.images import checked, split_reference, with_tag
from enxame.cli.session import Session

Json = dict[str, Any]
_CHUNK = 1 << 16


@command(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Pull an image or a repository from a registry",
    flags=[
        switch("a,all-tags", "Download all tagged images in the repository"),
        text("platform", "Set platform if server is multi-platform capable"),
        switch("q,quiet", "Suppress verbose output"),
        switch("disable-content-trust", "Skip image verification", default=True, hidden=True),
    ],
    count=(1, 1),
)
def pull(cli: Session, flags: Flags, args: Args) -> None:
    """Fetches an image and prints its whole name."""
    from enxame.cli.pulling import pull_image

    image = checked(args[0])
    if flags["all-tags"] and split_reference(image)[1]:
        raise CliError("tag can't be used with --all-tags/-a")
    if (
        not flags["all-tags"]
        and not flags["quiet"]
        and with_tag(image) != image
        and ":" not in image.rsplit("/", 1)[-1]
        and "@" not in image
    ):
        cli.say("Using default tag: latest")
        cli.out.flush()
    name = pull_image(cli, image, platform=flags["platform"], quiet=flags["quiet"], all_tags=flags["all-tags"])
    cli.say(_canonical(name))


def _canonical(name: str) -> str:
    """With its registry: ``docker.io/library/alpine:latest``."""
    first, separator, _ = name.partition("/")
    if separator and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if separator else f"docker.io/library/{name}"


@command(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Push an image or a repository to a registry",
    flags=[
        switch("a,all-tags", "Push all tags of an image to the repository"),
        switch("q,quiet", "Suppress verbose output"),
        switch("disable-content-trust", "Skip image signing", default=True, hidden=True),
    ],
    count=(1, 1),
    completes="image",
)
def push(cli: Session, flags: Flags, args: Args) -> None:
    """Sends an image to its registry."""
    from enxame.cli.pulling import show_messages
    from enxame.cli.registry import encoded_auth

    image = checked(args[0])
    if not flags["all-tags"]:
        full = with_tag(image)
        if full != image and not flags["quiet"]:
            cli.say("Using default tag: latest")
        image = full
    name, tag_, _ = split_reference(image)
    headers = {"X-Registry-Auth": encoded_auth(image) or "e30="}
    query = {"tag": tag_ if not flags["all-tags"] else None}
    with cli.client.stream("POST", f"/images/{quoted(name)}/push", query, headers=headers) as stream:
        show_messages(stream.messages(), None if flags["quiet"] else cli.out)
    if flags["quiet"]:
        cli.say(_canonical(image))


def _chunks(path: str) -> Iterator[bytes]:
    """A file's bytes, or stdin's for no path. Raises CliError."""
    if not path:
        while data := sys.stdin.buffer.read(_CHUNK):
            yield data
        return
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            yield data


def _check_readable(path: str) -> None:
    try:
        with open(path, "rb"):
            return
    except OSError as problem:
        raise CliError(f"open {path}: {(problem.strerror or '').lower()}") from None


@command(
    "load",
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    flags=[
        text("i,input", "Read from tar archive file, instead of STDIN"),
        switch("q,quiet", "Suppress the load output"),
        text("platform", "Load only the given platform variant"),
    ],
)
def load_(cli: Session, flags: Flags, args: Args) -> None:
    """Takes images from an archive."""
    from enxame.cli.pulling import show_messages

    if flags["input"]:
        _check_readable(flags["input"])
    elif sys.stdin.isatty():
        raise CliError("requested load from stdin, but stdin is empty")
    quiet = flags["quiet"] or not cli.out_is_terminal()
    query = {"quiet": quiet, "platform": flags["platform"] or None}
    with cli.client.stream("POST", "/images/load", query, _chunks(flags["input"])) as stream:
        show_messages(stream.messages(), cli.out)


@command(
    "import",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    flags=[
        many("c,change", "list", "Apply Dockerfile instruction to the created image"),
        text("m,message", "Set commit message for imported image"),
        text("platform", "Set platform if server is multi-platform capable"),
    ],
    count=(1, 2),
)
def import_(cli: Session, flags: Flags, args: Args) -> None:
    """Makes an image of a file tree."""
    from enxame.cli.pulling import show_messages

    repository = tag_ = ""
    if len(args) > 1:
        repository, tag_, _ = split_reference(checked(args[1]))
    remote = args[0].startswith(("http://", "https://"))
    if args[0] != "-" and not remote:
        _check_readable(args[0])
    query = {
        "fromSrc": args[0] if remote else "-",
        "repo": f"{repository}:{tag_}" if tag_ else repository or None,
        "message": flags["message"] or None,
        "platform": flags["platform"] or None,
    }
    path = "/images/create"
    body = None if remote else _chunks("" if args[0] == "-" else args[0])
    if flags["change"]:
        from urllib.parse import urlencode

        path += "?" + urlencode([("changes", c) for c in flags["change"]])
    with cli.client.stream("POST", path, query, body) as stream:
        show_messages(stream.messages(), cli.out)


@command(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    flags=[
        text("o,output", "Write to a file, instead of STDOUT"),
        text("platform", "Save only the given platform variant"),
    ],
    count=(1, -1),
    completes="image",
)
def save(cli: Session, flags: Flags, args: Args) -> None:
    """Writes images to an archive."""
    import os
    from urllib.parse import urlencode

    if not flags["output"] and cli.out_is_terminal():
        raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    path = "/images/get?" + urlencode([("names", name) for name in args])
    with cli.client.stream("GET", path) as stream:
        if not flags["output"]:
            for data in stream.chunks():
                cli.out.buffer.write(data)
            cli.out.buffer.flush()
            return
        part = f"{flags['output']}.{os.getpid()}.part"
        try:
            with open(part, "wb") as file:
                for data in stream.chunks():
                    file.write(data)
            os.replace(part, flags["output"])
        finally:
            if os.path.exists(part):
                os.unlink(part)
