"""The backups that a swarm makes by itself: flags of ``enxame swarm init`` and ``update``, and what came of them."""

from typing import Any, Final

import click

from enxame.cli.command import Flags
from enxame.cli.errors import CliError
from enxame.cli.flags import text, value
from enxame.cli.options.numbers import SECOND, format_duration, parse_duration, parse_uint
from enxame.cli.session import Session

_EVERY: Final = 24 * 3600 * SECOND
_KEEP: Final = 7

BACKUP_FLAGS: Final = frozenset({"backup-dir", "backup-every", "backup-keep", "backup-key-file"})


def backup_flags() -> list[click.Option]:
    """One fresh set of them."""
    every = f"Time between two backups (s|m|h) (default {format_duration(_EVERY)})"
    return [
        text("backup-dir", "Directory of the leader for backups that it makes by itself (empty: no more)"),
        value("backup-every", "duration", parse_duration, every, default=None),
        value("backup-keep", "uint", parse_uint, "Number of backups to keep (0: all)", default=_KEEP),
        text("backup-key-file", "Key file on every manager that encrypts the backups"),
    ]


def schedule_backups(cli: Session, flags: Flags) -> None:
    """Changes the schedule as the flags say; without any of them nothing happens."""
    if not flags.given & BACKUP_FLAGS:
        return
    swarm = cli.client.get("/swarm")
    schedule: dict[str, Any] = swarm.get("BackupSchedule") or {"Every": _EVERY, "Keep": _KEEP}
    if flags.changed("backup-dir"):
        schedule["Directory"] = flags["backup-dir"]
    elif not schedule.get("Directory"):
        raise CliError("backups need a directory: --backup-dir")
    for name, key in (("backup-every", "Every"), ("backup-keep", "Keep"), ("backup-key-file", "KeyFile")):
        if flags.changed(name):
            schedule[key] = flags[name]
    cli.client.post("/swarm/backup/schedule", schedule, {"version": swarm["Version"]["Index"]})
    if schedule["Directory"] and not schedule.get("KeyFile"):
        cli.warn("WARNING: The backups are not encrypted: whoever can read them has the swarm's keys and secrets.")


def tell_schedule(cli: Session) -> None:
    """Shows what is made by itself, and what came of it."""
    status = cli.client.get("/swarm/backup/schedule")
    schedule = status.get("Schedule")
    if not schedule:
        cli.say("The swarm makes no backups by itself: see --backup-dir of enxame swarm update.")
        return
    rows = {
        "Directory": schedule["Directory"],
        "Every": format_duration(schedule["Every"]),
        "Kept": schedule.get("Keep") or "all",
        "Encrypted": f"with {schedule['KeyFile']}" if schedule.get("KeyFile") else "no",
        "Last": f"{status['Last']} {status['LastFile']}".strip() or "none yet",
        "Next": status["Next"] or "now",
        **({"Failed": f"{status['Failed']} {status['Error']}"} if status["Error"] else {}),
    }
    for name, shown in rows.items():
        cli.say(f"{name + ':':<11}{shown}")
