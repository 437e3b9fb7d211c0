"""Completion for shells: the scripts, and names of the daemon's objects for arguments."""

from collections.abc import Callable
from typing import Any, Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from enxame.cli.client import Client
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError
from enxame.cli.session import Session

#: Seconds that asking the daemon may take: completion must not make a shell wait.
_DEADLINE: Final = 0.5


@command("completion", "bash|zsh|fish", "Print the completion script for a shell", count=(1, 1), completes="shell")
def completion(cli: Session, flags: Flags, args: Args) -> None:
    """``source <(enxame completion bash)``."""
    shell = get_completion_class(args[0])
    if shell is None or args[0] not in {"bash", "zsh", "fish"}:
        raise CliError(f'unknown shell "{args[0]}": bash, zsh and fish are supported')
    cli.say(shell(click.Command("enxame"), {}, "enxame", "_ENXAME_COMPLETE").source())


def _containers(client: Client, *, state: str = "") -> list[str]:
    found = client.get("/containers/json", {"all": state != "running"}) or []
    names = [(c["Names"][0].removeprefix("/"), c.get("State", "")) for c in found if c.get("Names")]
    return [name for name, now in names if state != "stopped" or now in {"created", "exited"}]


def _images(client: Client) -> list[str]:
    return [t for i in client.get("/images/json") or [] for t in i.get("RepoTags") or [] if t != "<none>:<none>"]


def _named(path: str) -> Callable[[Client], list[str]]:
    return lambda client: [item["Spec"]["Name"] for item in client.get(path) or []]


def _nodes(client: Client) -> list[str]:
    return ["self", *(n["Description"]["Hostname"] for n in client.get("/nodes") or [])]


def _networks(client: Client) -> list[str]:
    return [n["Name"] for n in client.get("/networks") or []]


def _configurations(client: Client) -> list[str]:
    return [n["Name"] for n in client.get("/networks") or [] if n.get("ConfigOnly")]


def _volumes(client: Client) -> list[str]:
    return [v["Name"] for v in (client.get("/volumes") or {}).get("Volumes") or []]


def _machines(_: Client) -> list[str]:
    from enxame.machine.store import MachineStore, default_path

    return MachineStore(default_path()).names()


def _contexts(_: Client) -> list[str]:
    from enxame.cli.context_store import ContextStore

    return ContextStore().names()


def _clusters(_: Client) -> list[str]:
    from enxame.machine.store import default_path

    return [file.stem for file in (default_path() / "clusters").glob("*.json")]


_KINDS: Final[dict[str, Callable[[Client], list[str]]]] = {
    "cluster": _clusters,
    "config": _named("/configs"),
    "container": _containers,
    "context": _contexts,
    "image": _images,
    "machine": _machines,
    "network": _networks,
    "node": _nodes,
    "role": lambda _: ["worker", "manager"],
    "running": lambda client: _containers(client, state="running"),
    "scale": lambda client: [f"{name}=" for name in _named("/services")(client)],
    "secret": _named("/secrets"),
    "service": _named("/services"),
    "shell": lambda _: ["bash", "zsh", "fish"],
    "stopped": lambda client: _containers(client, state="stopped"),
    "volume": _volumes,
    "--config": _named("/configs"),
    "--configuration": _configurations,
    "--endpoint-mode": lambda _: ["vip", "dnsrr"],
    "--network": _networks,
    "--network-driver": lambda _: ["bridge", "macvlan", "overlay"],
    "--scope": lambda _: ["local", "swarm"],
    "--secret": _named("/secrets"),
    "any": lambda client: [*_containers(client), *_images(client), *_networks(client), *_volumes(client)],
}


def complete_objects(ctx: click.Context, kind: str, incomplete: str, given: int) -> list[Any]:
    """Names that begin with what is typed; nothing when the daemon does not answer at once. Kinds with ``--`` are those
    of flags.
    """
    ask = _KINDS.get(kind)
    if ask is None:
        return []
    if kind == "network" and given >= 1 and ctx.command.name in {"connect", "disconnect"}:
        ask = _containers
    session = ctx.find_root().obj or Session()
    try:
        client = Client(session.endpoint, timeout=_DEADLINE)
    except CliError:
        return []
    try:
        names = ask(client)
    except (CliError, KeyError, OSError):
        return []
    finally:
        client.close()
    return [CompletionItem(name) for name in sorted(set(names)) if name.startswith(incomplete)]
