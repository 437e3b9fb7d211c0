"""The swarm's settings: defaults and rules."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from enxame.errors import InvalidArgument, rpc_error
from enxame.model.cluster import (
    DEFAULT_CERT_EXPIRY,
    DEFAULT_HEARTBEAT,
    DEFAULT_TASK_HISTORY,
    NANOSECONDS,
    OrchestrationConfig,
    SwarmSpec,
)

__all__ = ["validate", "with_defaults"]

SNAPSHOT_INTERVAL: Final = 10_000
SLOW_FOLLOWER_ENTRIES: Final = 500
ELECTION_TICK: Final = 10
HEARTBEAT_TICK: Final = 1
_MIN_CERT_EXPIRY: Final = 3600 * NANOSECONDS


def with_defaults(spec: SwarmSpec) -> SwarmSpec:
    """The settings with Swarm's defaults where a client gave none (or zero)."""
    history = spec.orchestration.task_history_retention_limit
    raft = spec.raft
    return replace(
        spec,
        name=spec.name or "default",
        orchestration=OrchestrationConfig(
            task_history_retention_limit=DEFAULT_TASK_HISTORY if history is None else history
        ),
        raft=replace(
            raft,
            snapshot_interval=raft.snapshot_interval or SNAPSHOT_INTERVAL,
            keep_old_snapshots=raft.keep_old_snapshots or 0,
            log_entries_for_slow_followers=raft.log_entries_for_slow_followers or SLOW_FOLLOWER_ENTRIES,
            election_tick=raft.election_tick or ELECTION_TICK,
            heartbeat_tick=raft.heartbeat_tick or HEARTBEAT_TICK,
        ),
        dispatcher=replace(spec.dispatcher, heartbeat_period=spec.dispatcher.heartbeat_period or DEFAULT_HEARTBEAT),
        ca_config=replace(
            spec.ca_config,
            node_cert_expiry=spec.ca_config.node_cert_expiry or DEFAULT_CERT_EXPIRY,
            external_cas=[
                replace(signer, protocol=signer.protocol or "cfssl") for signer in spec.ca_config.external_cas
            ],
        ),
    )


def validate(spec: SwarmSpec) -> None:
    """Check settings that have their defaults.

    Raises:
        InvalidArgument: out of rule.
    """
    if spec.name != "default":
        raise InvalidArgument('swarm spec must be named "default"')
    if spec.ca_config.node_cert_expiry < _MIN_CERT_EXPIRY:
        raise rpc_error("InvalidArgument", "minimum certificate expiry time is: 1h0m0s")
    if spec.dispatcher.heartbeat_period < 0:
        raise rpc_error("InvalidArgument", "heartbeat time period cannot be a negative duration")
    for signer in spec.ca_config.external_cas:
        if signer.protocol.lower() != "cfssl":
            raise InvalidArgument(f'invalid CAProtocol: "{signer.protocol}"')
