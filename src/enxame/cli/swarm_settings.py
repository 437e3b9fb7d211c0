"""The settings of a swarm: their flags, and changing them."""

from typing import Any

import click

from enxame.cli.command import Flags
from enxame.cli.flags import many, value
from enxame.cli.options.externalca import parse_external_ca
from enxame.cli.options.numbers import SECOND, parse_duration, parse_int, parse_uint
from enxame.cli.session import Session

Json = dict[str, Any]

_EXPIRY = 2160 * 3600 * SECOND


def _duration_text(name: str, summary: str, default: int) -> click.Option:
    from enxame.cli.options.numbers import format_duration

    return value(name, "duration", parse_duration, f"{summary} (default {format_duration(default)})", default=None)


def certificate_expiry() -> click.Option:
    """How long nodes' certificates are good for."""
    return _duration_text("cert-expiry", "Validity period for node certificates (ns|us|ms|s|m|h)", _EXPIRY)


def external_signers() -> click.Option:
    """Who signs nodes' certificates in the managers' stead."""
    return many(
        "external-ca",
        "external-ca",
        "Specifications of one or more certificate signing endpoints",
        parse_external_ca,
    )


def spec_flags() -> list[click.Option]:
    """Flags for the settings of a swarm."""
    return [
        value("task-history-limit", "int", parse_int, "Task history retention limit", default=5),
        _duration_text("dispatcher-heartbeat", "Dispatcher heartbeat period (ns|us|ms|s|m|h)", 5 * SECOND),
        certificate_expiry(),
        external_signers(),
        value("max-snapshots", "uint", parse_uint, "Number of additional Raft snapshots to retain", default=0),
        value("snapshot-interval", "uint", parse_uint, "Number of log entries between Raft snapshots", default=10000),
    ]


def merge_spec(flags: Flags, spec: Json, root: str = "") -> None:
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


def change_swarm(cli: Session, swarm: Json, *, rotate: str = "") -> None:
    """Give the swarm the spec of ``swarm``. ``rotate``: what gets a new secret, ``WorkerToken``, ``ManagerToken`` or
    ``ManagerUnlockKey``.
    """
    secrets = ("WorkerToken", "ManagerToken", "ManagerUnlockKey")
    query = {f"rotate{name}": "true" if name == rotate else "false" for name in secrets}
    cli.client.post("/swarm/update", swarm["Spec"], {"version": swarm["Version"]["Index"], **query})
