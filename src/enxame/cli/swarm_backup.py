"""``enxame swarm backup`` and ``restore``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError, UsageError
from enxame.cli.flags import switch, text
from enxame.cli.session import Session
from enxame.errors import EnxameError

if TYPE_CHECKING:
    from enxame.backup.files import Secret
    from enxame.backup.form import Head

_CHUNK = 1 << 18
_OBJECTS = ("service", "task", "node", "network", "secret", "config")
_SECRET_FLAGS = [
    switch("passphrase", "Ask for the passphrase that encrypts the backup"),
    text("passphrase-file", "File whose first line is the passphrase"),
    text("key-file", "File that is the key (16 to 4096 bytes of any kind)"),
]
_UNENCRYPTED = (
    "WARNING: The backup is not encrypted: whoever can read it has the swarm's keys and secrets.\n"
    "         Use --passphrase, --passphrase-file or --key-file."
)


@contextmanager
def _as_command_errors() -> Iterator[None]:
    try:
        yield
    except EnxameError as problem:
        raise CliError(problem.message) from None


def _secret(cli: Session, flags: Flags, *, new: bool) -> Secret | None:
    """The secret that the flags tell; a new passphrase is asked for twice. Raises CliError, EnxameError."""
    from enxame.backup.files import Secret

    given = [name for name in ("passphrase", "passphrase-file", "key-file") if flags[name]]
    if len(given) > 1:
        raise CliError(f"--{given[0]} and --{given[1]} exclude each other")
    if flags["key-file"]:
        return Secret.from_key_file(Path(flags["key-file"]))
    if flags["passphrase-file"]:
        path = flags["passphrase-file"]
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else "it is not text"
            raise CliError(f"cannot read the passphrase file {path}: {reason}") from None
        return Secret("passphrase", (lines or [""])[0].encode())
    if flags["passphrase"]:
        return _asked(cli, new=new)
    return None


def _asked(cli: Session, *, new: bool) -> Secret:
    from enxame.backup.files import Secret

    answer = cli.read_secret("Passphrase: ")
    if new and sys.stdin.isatty() and cli.read_secret("The same again: ") != answer:
        raise CliError("the passphrases are not the same")
    return Secret("passphrase", answer.encode())


@command(
    "backup",
    "[OPTIONS] FILE",
    "Keep the whole swarm in a file, while it runs",
    flags=[
        *_SECRET_FLAGS,
        switch("check", "Verify FILE instead, without any daemon"),
        switch("status", "Tell of the backups that the swarm makes by itself instead"),
    ],
    count=(0, 1),
)
def backup(cli: Session, flags: Flags, args: Args) -> None:
    """Writes a backup (mode 0600, whole or not at all), or verifies one."""
    from enxame.backup import files

    if flags["status"]:
        from enxame.cli.swarm_schedule import tell_schedule

        tell_schedule(cli)
        return
    if not args:
        raise UsageError('"enxame swarm backup" requires exactly 1 argument.', "enxame swarm backup", 1)
    path = Path(args[0])
    with _as_command_errors():
        if flags["check"]:
            secret = _secret(cli, flags, new=False)
            _describe(cli, path, files.check(path, secret), opened=secret is not None)
            return
        secret = _secret(cli, flags, new=True)
        headers = {files.SECRET_HEADER: secret.header()} if secret is not None else {}
        with cli.client.stream("GET", "/swarm/backup", headers=headers) as stream:
            head = files.write(path, stream.chunks(), secret)
    cli.say(f"Swarm {head.cluster_id} is kept in {path}: revision {head.revision}, {_contents(head)}.")
    if secret is None:
        cli.warn(_UNENCRYPTED)


def _describe(cli: Session, path: Path, head: Head, *, opened: bool) -> None:
    encryption = head.encryption
    how = "no"
    if encryption is not None:
        how = "with a key file" if encryption.kind == "keyfile" else "with a passphrase"
        how += ", which is the right one" if opened else " (give it, too, to see that it is the right one)"
    rows = {
        "Swarm": head.cluster_id,
        "Made by": head.node_id,
        "Time": head.time,
        "Revision": str(head.revision),
        "Contents": _contents(head),
        "Encrypted": how,
    }
    for name, value in rows.items():
        cli.say(f"{name + ':':<11}{value}")
    cli.say(f"\n{path} is whole.")


def _contents(head: Head) -> str:
    counts = [(head.counts.get(kind, 0), kind) for kind in _OBJECTS]
    return ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for count, kind in counts)


@command(
    "restore",
    "[OPTIONS] FILE",
    "Make this node the manager of a swarm that was kept in a file",
    flags=[
        *_SECRET_FLAGS,
        text("advertise-addr", "Advertised address (format: <ip|interface>[:port])"),
        text("data-path-addr", "Address or interface to use for data path traffic (format: <ip|interface>)"),
        text("listen-addr", "Listen address (format: <ip|interface>[:port])"),
    ],
    count=(1, 1),
)
def restore(cli: Session, flags: Flags, args: Args) -> None:
    """Restores a backup on a node that is in no swarm; tells how the workers find it."""
    from enxame.backup import files

    path = Path(args[0])
    with _as_command_errors():
        secret = _secret(cli, flags, new=False)
        head = files.check(path)
        if secret is None and head.encryption is not None and head.encryption.kind == "passphrase":
            secret = _asked(cli, new=False)
        files.check(path, secret)
    headers = {"Content-Type": "application/octet-stream"}
    if secret is not None:
        headers[files.SECRET_HEADER] = secret.header()
    query = {
        "listenAddr": flags["listen-addr"] or None,
        "advertiseAddr": flags["advertise-addr"] or None,
        "dataPathAddr": flags["data-path-addr"] or None,
    }
    with cli.client.stream("POST", "/swarm/restore", query, _chunks(path), headers) as stream:
        restored = next(stream.messages())
    cli.say(f"Swarm {restored['ClusterID']} is restored as it was at {restored['Time']}: {_contents(head)}.")
    cli.say(f"This node ({restored['NodeID']}) is its manager, at {restored['AdvertiseAddr']}.\n")
    if restored["AdvertiseAddr"] == restored["FormerAddr"]:
        cli.say("The manager has its former address: the workers come back by themselves.")
        return
    token = cli.client.get("/swarm")["JoinTokens"]["Worker"]
    cli.say(
        f"Its address was {restored['FormerAddr']}. On each worker that does not come back, run the following command:"
        f"\n\n    enxame swarm join --token {token} {restored['AdvertiseAddr']}\n\n"
        "It stays the node that it is, and its tasks go on."
    )


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            yield data
