"""``enxame swarm``."""

from typing import Any

import click

from enxame.cli.command import Args, Flags, Group, command
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import many, switch, text, value
from enxame.cli.options.numbers import parse_uint
from enxame.cli.session import Session
from enxame.cli.swarm_lock import tell_unlock_key
from enxame.cli.swarm_schedule import BACKUP_FLAGS, backup_flags, schedule_backups
from enxame.cli.swarm_settings import change_swarm, merge_spec, spec_flags

Json = dict[str, Any]

_PORT = 2377
group = Group(
    "swarm",
    "Manage Swarm",
    {
        "backup": "swarm_backup:backup",
        "ca": "swarm_ca:ca",
        "init": "swarm:init",
        "join": "swarm:join",
        "join-token": "swarm:join_token",
        "leave": "swarm:leave",
        "restore": "swarm_backup:restore",
        "unlock": "swarm_lock:unlock",
        "unlock-key": "swarm_lock:unlock_key",
        "update": "swarm:update",
    },
)


def _node_address(text_: str) -> str:
    """Address with the default port."""
    if text_.startswith("["):
        return text_ if "]:" in text_ else f"{text_}:{_PORT}"
    return text_ if ":" in text_ else f"{text_}:{_PORT}"


def _availability(flags: Flags) -> str:
    wanted = str(flags["availability"]).lower()
    if wanted not in {"active", "pause", "drain"}:
        raise CliError(f'invalid availability "{flags["availability"]}", only active, pause and drain are supported')
    return wanted if flags.changed("availability") else ""


_ADDRESSES = [
    text("advertise-addr", "Advertised address (format: <ip|interface>[:port])"),
    text("availability", 'Availability of the node ("active"|"pause"|"drain")', default="active"),
    text("data-path-addr", "Address or interface to use for data path traffic (format: <ip|interface>)"),
    value(
        "listen-addr",
        "node-addr",
        _node_address,
        "Listen address (format: <ip|interface>[:port])",
        default=f"0.0.0.0:{_PORT}",
    ),
]


def join_command(cli: Session, role: str) -> str:
    """The lines that tell how to add a node."""
    swarm = cli.client.get("/swarm")
    info = cli.client.get("/info")["Swarm"]
    token = swarm["JoinTokens"][role.capitalize()]
    own = next((m["Addr"] for m in info.get("RemoteManagers") or [] if m.get("NodeID") == info.get("NodeID")), "")
    if not own:
        own = next((m["Addr"] for m in info.get("RemoteManagers") or []), "")
    return f"To add a {role} to this swarm, run the following command:\n\n    enxame swarm join --token {token} {own}\n"


@command(
    "init",
    "[OPTIONS]",
    "Initialize a swarm",
    flags=[
        *_ADDRESSES,
        switch("autolock", "Enable manager autolocking (requiring an unlock key to start a stopped manager)"),
        value(
            "data-path-port",
            "uint32",
            parse_uint,
            "Port number to use for data path traffic (1024 - 49151). If no value is set or is set to 0, "
            "the default port (4789) is used.",
            default=0,
        ),
        many("default-addr-pool", "ipNetSlice", "default address pool in CIDR format"),
        value(
            "default-addr-pool-mask-length", "uint32", parse_uint, "default address pool subnet mask length", default=24
        ),
        switch("force-new-cluster", "Force create a new cluster from current state"),
        *backup_flags(),
        *spec_flags(),
    ],
)
def init(cli: Session, flags: Flags, args: Args) -> None:
    """Makes this node the first manager of a new swarm."""
    pools = [p.strip() for text_ in flags["default-addr-pool"] for p in text_.split(",")]
    spec: Json = {
        "Labels": None,
        "Orchestration": {},
        "Raft": {"ElectionTick": 0, "HeartbeatTick": 0},
        "Dispatcher": {},
        "CAConfig": {},
        "TaskDefaults": {},
        "EncryptionConfig": {"AutoLockManagers": flags["autolock"]},
    }
    merge_spec(flags, spec)
    request = {
        "ListenAddr": flags["listen-addr"],
        "AdvertiseAddr": flags["advertise-addr"],
        "DataPathAddr": flags["data-path-addr"],
        "DataPathPort": flags["data-path-port"],
        "ForceNewCluster": flags["force-new-cluster"],
        "Spec": spec,
        "AutoLockManagers": flags["autolock"],
        "Availability": _availability(flags),
        "DefaultAddrPool": pools or None,
        "SubnetSize": flags["default-addr-pool-mask-length"],
    }
    try:
        node = cli.client.post("/swarm/init", request)
    except DaemonError as problem:
        if (
            "could not choose an IP address to advertise" in problem.detail
            or "could not find the system's IP address" in problem.detail
        ):
            raise DaemonError(problem.status, f"{problem.detail} - specify one with --advertise-addr") from None
        raise
    cli.say(f"Swarm initialized: current node ({node}) is now a manager.\n")
    schedule_backups(cli, flags)
    cli.say(join_command(cli, "worker"))
    cli.say("To add a manager to this swarm, run 'enxame swarm join-token manager' and follow the instructions.\n")
    if flags["autolock"]:
        tell_unlock_key(cli)


@command(
    "join",
    "[OPTIONS] HOST:PORT",
    "Join a swarm as a node and/or manager",
    flags=[*_ADDRESSES, text("token", "Token for entry into the swarm")],
    count=(1, 1),
)
def join(cli: Session, flags: Flags, args: Args) -> None:
    """Makes this node a part of an existing swarm."""
    request = {
        "ListenAddr": flags["listen-addr"],
        "AdvertiseAddr": flags["advertise-addr"],
        "DataPathAddr": flags["data-path-addr"],
        "RemoteAddrs": [args[0]],
        "JoinToken": flags["token"],
        "Availability": _availability(flags),
    }
    cli.client.post("/swarm/join", request)
    manager = cli.client.get("/info")["Swarm"].get("ControlAvailable")
    cli.say(f"This node joined a swarm as a {'manager' if manager else 'worker'}.")


@command(
    "join-token",
    "[OPTIONS] (worker|manager)",
    "Manage join tokens",
    flags=[switch("q,quiet", "Only display token"), switch("rotate", "Rotate join token")],
    count=(1, 1),
    completes="role",
)
def join_token(cli: Session, flags: Flags, args: Args) -> None:
    """Shows (or first replaces) the token that lets nodes in."""
    role = args[0]
    if role not in {"worker", "manager"}:
        raise CliError(f"unknown role {role}")
    if flags["rotate"]:
        swarm = cli.client.get("/swarm")
        change_swarm(cli, swarm, rotate=f"{role.capitalize()}Token")
        if not flags["quiet"]:
            cli.say(f"Successfully rotated {role} join token.\n")
    if flags["quiet"]:
        cli.say(cli.client.get("/swarm")["JoinTokens"][role.capitalize()])
    else:
        cli.say(join_command(cli, role))


@command(
    "leave",
    "[OPTIONS]",
    "Leave the swarm",
    flags=[switch("f,force", "Force this node to leave the swarm, ignoring warnings")],
)
def leave(cli: Session, flags: Flags, args: Args) -> None:
    """Takes this node out of its swarm."""
    cli.client.post("/swarm/leave", query={"force": flags["force"]})
    cli.say("Node left the swarm.")


@command(
    "update",
    "[OPTIONS]",
    "Update the swarm",
    flags=[
        switch("autolock", "Change manager autolocking setting (true|false)"),
        *backup_flags(),
        *spec_flags(),
    ],
)
def update(cli: Session, flags: Flags, args: Args) -> None:
    """Changes the swarm's spec; without any flag it shows its help."""
    if not flags.given:
        click.echo(
            update.get_help(
                click.get_current_context(silent=True) or click.Context(update, info_name="enxame swarm update")
            )
        )
        return
    swarm = cli.client.get("/swarm")
    spec = swarm["Spec"]
    was_locked = (spec.get("EncryptionConfig") or {}).get("AutoLockManagers", False)
    merge_spec(flags, spec, (swarm.get("TLSInfo") or {}).get("TrustRoot", ""))
    if flags.changed("autolock"):
        spec.setdefault("EncryptionConfig", {})["AutoLockManagers"] = flags["autolock"]
    if flags.given - BACKUP_FLAGS:
        change_swarm(cli, swarm)
    schedule_backups(cli, flags)
    cli.say("Swarm updated.")
    if flags.changed("autolock") and flags["autolock"] and not was_locked:
        tell_unlock_key(cli)
