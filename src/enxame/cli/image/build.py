"""``build`` and ``builder prune``."""

import base64
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from enxame.cli.command import Args, Flags, Group, command
from enxame.cli.errors import CliError
from enxame.cli.flags import many, switch, text, value
from enxame.cli.humanise import size_words
from enxame.cli.options.numbers import parse_bytes, parse_int, parse_swap
from enxame.cli.session import Session

Json = dict[str, Any]
_CHUNK = 1 << 16
_OWN_NAME = ".dockerfile.enxame"
#: Flags and what the API calls them.
_LIMITS = {
    "cpu-period": "cpuperiod",
    "cpu-quota": "cpuquota",
    "cpu-shares": "cpushares",
    "cpuset-cpus": "cpusetcpus",
    "cpuset-mems": "cpusetmems",
    "memory": "memory",
    "memory-swap": "memswap",
    "shm-size": "shmsize",
}


@command(
    "build",
    "[OPTIONS] PATH | -",
    "Build an image from a Dockerfile",
    flags=[
        many("add-host", "list", "Add a custom host-to-IP mapping (host:ip)"),
        many("build-arg", "list", "Set build-time variables"),
        value("cpu-period", "int", parse_int, "Limit the CPU CFS (Completely Fair Scheduler) period"),
        value("cpu-quota", "int", parse_int, "Limit the CPU CFS (Completely Fair Scheduler) quota"),
        value("c,cpu-shares", "int", parse_int, "CPU shares (relative weight)"),
        text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
        text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
        text("f,file", "Name of the Dockerfile (Default is 'PATH/Dockerfile')"),
        switch("force-rm", "Always remove intermediate containers"),
        text("iidfile", "Write the image ID to the file"),
        many("label", "list", "Set metadata for an image"),
        value("m,memory", "bytes", parse_bytes, "Memory limit"),
        value("memory-swap", "bytes", parse_swap, "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
        text("network", "Set the networking mode for the RUN instructions during build", default="default"),
        switch("no-cache", "Do not use cache when building the image"),
        text("platform", "Set platform if server is multi-platform capable"),
        switch("pull", "Always attempt to pull a newer version of the image"),
        switch("q,quiet", "Suppress the build output and print image ID on success"),
        switch("rm", "Remove intermediate containers after a successful build", default=True),
        value("shm-size", "bytes", parse_bytes, "Size of '/dev/shm'"),
        switch("squash", "Squash newly built layers into a single new layer"),
        many("t,tag", "list", "Name and optionally a tag in the 'name:tag' format"),
        text("target", "Set the target build stage to build."),
    ],
    count=(1, 1),
)
def build(cli: Session, flags: Flags, args: Args) -> None:
    """Sends the context and shows what the daemon says."""
    from enxame.cli.pulling import show_messages

    dockerfile, body = _context(args[0], flags["file"])
    arguments = dict(_pair(one, os.environ.get(one)) for one in flags["build-arg"])
    query = {
        "dockerfile": dockerfile,
        "t": list(flags["tag"]) or None,
        "buildargs": json.dumps(arguments) if arguments else None,
        "labels": json.dumps(dict(_pair(one, "") for one in flags["label"])) if flags["label"] else None,
        "extrahosts": list(flags["add-host"]) or None,
        "networkmode": flags["network"],
        "nocache": "1" if flags["no-cache"] else None,
        "pull": "1" if flags["pull"] else None,
        "platform": flags["platform"] or None,
        "squash": "1" if flags["squash"] else None,
        "target": flags["target"] or None,
        "rm": "1" if flags["rm"] else "0",
        "q": "1" if flags["quiet"] else None,
        **{parameter: str(flags[flag]) if flags[flag] else None for flag, parameter in _LIMITS.items()},
    }
    headers = {"Content-Type": "application/x-tar", "X-Registry-Config": _credentials()}
    with cli.client.stream("POST", "/build", query, body, headers) as stream:
        auxiliary = show_messages(stream.messages(), cli.out)
    image_id = next((str(one["ID"]) for one in reversed(auxiliary) if "ID" in one), "")
    if flags["iidfile"]:
        with open(flags["iidfile"], "w", encoding="ascii") as file:
            file.write(image_id)


def _context(path: str, file: str) -> tuple[str, Iterator[bytes]]:
    """The name of the Dockerfile in the context, and the context's tar."""
    from enxame.cli.image.context import directory_context, file_member

    if path == "-":
        if file:
            raise CliError("invalid argument: can't use stdin for both build context and dockerfile")
        first = sys.stdin.buffer.read(_CHUNK)
        if first[257:262] == b"ustar" or first[:2] == b"\x1f\x8b":
            return "Dockerfile", _rest(first)
        content = first + sys.stdin.buffer.read()
        return "Dockerfile", iter([*file_member("Dockerfile", content), bytes(1024)])
    if "://" in path or path.startswith(("git@", "github.com/")):
        raise CliError(f"unable to prepare context: {path} is remote, and only directories and - are supported")
    if not os.path.isdir(path):
        raise CliError(f'unable to prepare context: path "{path}" not found')
    if file == "-":
        return _OWN_NAME, directory_context(path, _OWN_NAME, (_OWN_NAME, sys.stdin.buffer.read()))
    whole = os.path.abspath(file or os.path.join(path, "Dockerfile"))
    if not os.path.isfile(whole):
        raise CliError(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
            f"lstat {whole}: no such file or directory"
        )
    inside = os.path.relpath(whole, os.path.abspath(path))
    if inside.startswith(".."):
        with open(whole, "rb") as opened:
            return _OWN_NAME, directory_context(path, _OWN_NAME, (_OWN_NAME, opened.read()))
    return inside, directory_context(path, inside)


def _rest(first: bytes) -> Iterator[bytes]:
    yield first
    while data := sys.stdin.buffer.read(_CHUNK):
        yield data


def _pair(text_: str, default: str | None) -> tuple[str, str | None]:
    name, equals, value = text_.partition("=")
    return name, value if equals else default


def _credentials() -> str:
    from enxame.cli.registry import encoded_auth, load_config

    found: Json = {}
    for key in load_config().get("auths") or {}:
        encoded = encoded_auth(f"{key.removeprefix('https://').removeprefix('http://').partition('/')[0]}/x")
        if encoded:
            found[key] = json.loads(base64.urlsafe_b64decode(encoded))
    return base64.urlsafe_b64encode(json.dumps(found).encode()).decode()


@command(
    "prune",
    "",
    "Remove build cache",
    flags=[
        switch("a,all", "Remove all unused build cache, not just dangling ones"),
        switch("f,force", "Do not prompt for confirmation"),
    ],
)
def prune(cli: Session, flags: Flags, args: Args) -> None:
    """Drops the cache of builds."""
    warning = "WARNING! This will remove all build cache. Are you sure you want to continue?"
    if not flags["force"] and not cli.confirm(warning):
        return
    report = cli.client.call("POST", "/build/prune", {"all": "1" if flags["all"] else None})
    gone = report.get("CachesDeleted") or []
    if gone:
        cli.say("Deleted build cache objects:")
        for one in gone:
            cli.say(one)
        cli.say("")
    cli.say(f"Total reclaimed space: {size_words(report.get('SpaceReclaimed', 0))}")


builder = Group("builder", "Manage builds", {"build": "image.build:build", "prune": "image.build:prune"})
