"""``enxame swarm``."""

from typing import Any

import click

from enxame.cli.command import Args, Flags, Group, command
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import many, switch, text, value
from enxame.cli.options.externalca import parse_external_ca
from enxame.cli.options.numbers import SECOND, parse_duration, parse_int, parse_uint
from enxame.cli.session import Session
from enxame.cli.swarm_schedule import BACKUP_FLAGS, backup_flags, schedule_backups

Json = dict[str, Any]

_EXPIRY = 2160 * 3600 * SECOND
_PORT = 2377
_UNLOCK = (
    "To unlock a swarm manager after it restarts, run the `enxame swarm unlock`\n"
    "command and provide the following key:\n\n    {key}\n\n"
    "Remember to store this key in a password manager, since without it you\n"
    "will not be able to restart the manager."
)

group = Group(
    "swarm",
    "Manage Swarm",
    {
        "backup": "swarm_backup:backup",
        "ca": "swarm:ca",
        "init": "swarm:init",
        "join": "swarm:join",
        "join-token": "swarm:join_token",
        "leave": "swarm:leave",
        "restore": "swarm_backup:restore",
        "unlock": "swarm:unlock",
        "unlock-key": "swarm:unlock_key",
        "update": "swarm:update",
    },
)


def _duration_text(name: str, summary: str, default: int) -> click.Option:
    from enxame.cli.options.numbers import format_duration

    return value(name, "duration", parse_duration, f"{summary} (default {format_duration(default)})", default=None)


def _node_address(text_: str) -> str:
    """Address with the default port."""
    if text_.startswith("["):
        return text_ if "]:" in text_ else f"{text_}:{_PORT}"
    return text_ if ":" in text_ else f"{text_}:{_PORT}"


def _spec_flags() -> list[click.Option]:
    return [
        value("task-history-limit", "int", parse_int, "Task history retention limit", default=5),
        _duration_text("dispatcher-heartbeat", "Dispatcher heartbeat period (ns|us|ms|s|m|h)", 5 * SECOND),
        _duration_text("cert-expiry", "Validity period for node certificates (ns|us|ms|s|m|h)", _EXPIRY),
        many(
            "external-ca",
            "external-ca",
            "Specifications of one or more certificate signing endpoints",
            parse_external_ca,
        ),
        value("max-snapshots", "uint", parse_uint, "Number of additional Raft snapshots to retain", default=0),
        value("snapshot-interval", "uint", parse_uint, "Number of log entries between Raft snapshots", default=10000),
    ]


def _merge_spec(flags: Flags, spec: Json, root: str = "") -> None:
    """Given flags over a SwarmSpec. Signers are those of ``root``, the present one."""
    if flags.changed("task-history-limit"):
        spec.setdefault("Orchestration", {})["TaskHistoryRetentionLimit"] = flags["task-history-limit"]
    if flags.changed("dispatcher-heartbeat"):
        spec.setdefault("Dispatcher", {})["HeartbeatPeriod"] = flags["dispatcher-heartbeat"]
    if flags.changed("cert-expiry"):
        spec.setdefault("CAConfig", {})["NodeCertExpiry"] = flags["cert-expiry"]
    if flags.changed("external-ca"):
        signers = [{**signer, "CACert": root or signer["CACert"]} for signer in flags["external-ca"]]
        spec.setdefault("CAConfig", {})["ExternalCAs"] = signers
    if flags.changed("max-snapshots"):
        spec.setdefault("Raft", {})["KeepOldSnapshots"] = flags["max-snapshots"]
    if flags.changed("snapshot-interval"):
        spec.setdefault("Raft", {})["SnapshotInterval"] = flags["snapshot-interval"]


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
        *_spec_flags(),
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
    _merge_spec(flags, spec)
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
        cli.say(_UNLOCK.format(key=cli.client.get("/swarm/unlockkey")["UnlockKey"]))


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
        cli.client.post(
            "/swarm/update",
            swarm["Spec"],
            {
                "version": swarm["Version"]["Index"],
                "rotateWorkerToken": "true" if role == "worker" else "false",
                "rotateManagerToken": "true" if role == "manager" else "false",
                "rotateManagerUnlockKey": "false",
            },
        )
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
        *_spec_flags(),
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
    _merge_spec(flags, spec, (swarm.get("TLSInfo") or {}).get("TrustRoot", ""))
    if flags.changed("autolock"):
        spec.setdefault("EncryptionConfig", {})["AutoLockManagers"] = flags["autolock"]
    if flags.given - BACKUP_FLAGS:
        _update(cli, spec, swarm["Version"]["Index"])
    schedule_backups(cli, flags)
    cli.say("Swarm updated.")
    if flags.changed("autolock") and flags["autolock"] and not was_locked:
        cli.say(_UNLOCK.format(key=cli.client.get("/swarm/unlockkey")["UnlockKey"]))


def _update(cli: Session, spec: Json, version: int, *, rotate_unlock_key: bool = False) -> None:
    cli.client.post(
        "/swarm/update",
        spec,
        {
            "version": version,
            "rotateWorkerToken": "false",
            "rotateManagerToken": "false",
            "rotateManagerUnlockKey": "true" if rotate_unlock_key else "false",
        },
    )


@command("unlock", "", "Unlock swarm")
def unlock(cli: Session, flags: Flags, args: Args) -> None:
    """Gives a locked manager its key."""
    info = cli.client.get("/info")["Swarm"]
    match info.get("LocalNodeState"):
        case "inactive":
            raise CliError("Error: This node is not part of a swarm")
        case "locked":
            key = cli.read_secret("Enter unlock key: ")
            cli.client.post("/swarm/unlock", {"UnlockKey": key})
        case _:
            raise CliError("Error: swarm is not locked")


@command(
    "unlock-key",
    "[OPTIONS]",
    "Manage the unlock key",
    flags=[switch("q,quiet", "Only display token"), switch("rotate", "Rotate unlock key")],
)
def unlock_key(cli: Session, flags: Flags, args: Args) -> None:
    """Shows (or first replaces) the key that unlocks managers."""
    if flags["rotate"]:
        swarm = cli.client.get("/swarm")
        if not (swarm["Spec"].get("EncryptionConfig") or {}).get("AutoLockManagers"):
            raise CliError("cannot rotate because autolock is not turned on")
        _update(cli, swarm["Spec"], swarm["Version"]["Index"], rotate_unlock_key=True)
        if not flags["quiet"]:
            cli.say("Successfully rotated manager unlock key.\n")
    key = cli.client.get("/swarm/unlockkey").get("UnlockKey", "")
    if not key:
        raise CliError("no unlock key is set")
    cli.say(key if flags["quiet"] else _UNLOCK.format(key=key))


def _pem(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            content = file.read()
    except OSError as problem:
        raise ValueError(f"open {path}: {(problem.strerror or '').lower()}") from None
    except UnicodeDecodeError:
        content = ""
    if "-----BEGIN " not in content:
        raise ValueError("file contents must be in PEM format")
    return content


@command(
    "ca",
    "[OPTIONS]",
    "Display and rotate the root CA",
    flags=[
        value("ca-cert", "pem-file", _pem, "Path to the PEM-formatted root CA certificate to use for the new cluster"),
        value("ca-key", "pem-file", _pem, "Path to the PEM-formatted root CA key to use for the new cluster"),
        _duration_text("cert-expiry", "Validity period for node certificates (ns|us|ms|s|m|h)", _EXPIRY),
        switch("d,detach", "Exit immediately instead of waiting for the root rotation to converge"),
        many(
            "external-ca",
            "external-ca",
            "Specifications of one or more certificate signing endpoints",
            parse_external_ca,
        ),
        switch("q,quiet", "Suppress progress output"),
        switch("rotate", "Rotate the swarm CA - if no certificate or key are provided, new ones will be generated"),
    ],
)
def ca(cli: Session, flags: Flags, args: Args) -> None:
    """Shows the root certificate, or replaces it and waits until all nodes have the new one."""
    if not flags["rotate"]:
        for name in ("ca-cert", "ca-key", "cert-expiry", "external-ca"):
            if flags.changed(name):
                raise CliError(f"`--{name}` flag requires the `--rotate` flag to update the CA")
        _show_ca(cli)
        return
    swarm = cli.client.get("/swarm")
    config = swarm["Spec"].setdefault("CAConfig", {})
    certificate, key = flags["ca-cert"] or "", flags["ca-key"] or ""
    if flags["external-ca"] and not certificate:
        raise CliError(
            "rotating to an external CA requires the `--ca-cert` flag to specify the external CA's cert - "
            "to add an external CA with the current root CA certificate, use the `update` command instead"
        )
    if certificate and not flags["external-ca"] and not key:
        raise CliError("the --ca-cert flag requires that a --ca-key flag and/or --external-ca flag be provided as well")
    if flags.changed("cert-expiry"):
        config["NodeCertExpiry"] = flags["cert-expiry"]
    if flags.changed("external-ca"):
        config["ExternalCAs"] = [{**signer, "CACert": certificate} for signer in flags["external-ca"]]
    for name, given in (("SigningCACert", certificate), ("SigningCAKey", key)):
        config.pop(name, None)
        if given:
            config[name] = given
    if not certificate and not key:
        config["ForceRotate"] = config.get("ForceRotate", 0) + 1
    _update(cli, swarm["Spec"], swarm["Version"]["Index"])
    if flags["detach"]:
        return
    from enxame.cli.rotation import wait_for_rotation

    wait_for_rotation(cli, quiet=flags["quiet"])
    _show_ca(cli)


def _show_ca(cli: Session) -> None:
    root = (cli.client.get("/swarm").get("TLSInfo") or {}).get("TrustRoot", "")
    if not root:
        raise CliError("No CA information available")
    cli.say(root.strip())
