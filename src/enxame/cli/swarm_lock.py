"""``enxame swarm unlock`` and ``unlock-key``: managers that need a key after they restart."""

from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError
from enxame.cli.flags import switch
from enxame.cli.session import Session
from enxame.cli.swarm_settings import change_swarm

_TEXT = (
    "To unlock a swarm manager after it restarts, run the `enxame swarm unlock`\n"
    "command and provide the following key:\n\n    {key}\n\n"
    "Remember to store this key in a password manager, since without it you\n"
    "will not be able to restart the manager."
)


def tell_unlock_key(cli: Session) -> None:
    """How managers are unlocked from now on."""
    cli.say(_TEXT.format(key=cli.client.get("/swarm/unlockkey")["UnlockKey"]))


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
        change_swarm(cli, swarm, rotate="ManagerUnlockKey")
        if not flags["quiet"]:
            cli.say("Successfully rotated manager unlock key.\n")
    key = cli.client.get("/swarm/unlockkey").get("UnlockKey", "")
    if not key:
        raise CliError("no unlock key is set")
    cli.say(key if flags["quiet"] else _TEXT.format(key=key))
