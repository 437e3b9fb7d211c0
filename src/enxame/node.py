"""The composition root: builds the parts of a daemon, starts them in order, stops them in reverse."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from enxame import listeners
from enxame.agent.container_executor import ContainerExecutor
from enxame.agent.payloads import PayloadFiles
from enxame.api.context import ApiContext, DaemonFacts, RuntimeFacts
from enxame.api.forwarded import ForwardedApi
from enxame.api.server import ApiServer
from enxame.control.now import Now
from enxame.daemon_config import ConfigError, DaemonConfig
from enxame.engine.engine import Engine, EngineOptions
from enxame.engine.networks.local_networks import DefaultBridge
from enxame.engine.runtimes import RuntimeProgram
from enxame.membership import host_interfaces
from enxame.membership.founding import Founder
from enxame.membership.manager_parts import ManagerParts
from enxame.membership.member_files import MemberFiles
from enxame.membership.membership import STATE_FILE, Membership
from enxame.membership.own_node import OwnMachine
from enxame.membership.state_file import NodeState
from enxame.membership.state_keys import StateKeys
from enxame.membership.swarm_parts import SwarmParts
from enxame.membership.worker_parts import WorkerParts
from enxame.network.ipam import DEFAULT_POOLS, SubnetPool
from enxame.sd_listen import HandedOver
from enxame.security.ids import new_id

log = logging.getLogger(__name__)

ENGINE_ID_FILE: Final = "engine-id"


class Node:
    """One daemon. :meth:`stop` may be called whatever :meth:`start` came to."""

    def __init__(self, config: DaemonConfig, handed_over: Sequence[HandedOver] = ()) -> None:
        self._config = config
        self._handed_over = handed_over
        self._closing = AsyncExitStack()

    async def start(self) -> None:
        """Adopt what runs, take up the swarm, and answer.

        Raises:
            ConfigError: an option that does not do.
            EnxameError, OSError: what the daemon cannot do without is missing or refused.
        """
        config = self._config
        engine = Engine(
            EngineOptions(
                data_root=config.data_root,
                exec_root=config.exec_root,
                runtime=config.default_runtime,
                runtimes={name: RuntimeProgram(*one) for name, one in config.runtimes.items()},
                default_bridge=DefaultBridge(config.bip, config.ipv6, config.fixed_cidr_v6),
                mesh_shortcuts=config.mesh_shortcuts,
                pools=_pools(config),
                insecure_registries=config.insecure_registries,
                registry_mirrors=config.registry_mirrors,
            )
        )
        self._closing.push_async_callback(engine.stop)
        await engine.start()
        forwarded = ForwardedApi()
        membership = self._membership(engine, forwarded)
        self._closing.push_async_callback(membership.stop)
        await membership.start()
        api = ApiServer(ApiContext(engine=engine, membership=membership, facts=self._facts(engine)), forwarded)
        self._closing.push_async_callback(api.close)
        await listeners.listen(api, config, self._handed_over)

    async def stop(self) -> None:
        """Stop answering, leave off the swarm's work, let the containers go on."""
        await self._closing.aclose()

    def _membership(self, engine: Engine, forwarded: ForwardedApi) -> Membership:
        config = self._config
        directory = config.data_root / "swarm"
        keys = StateKeys(directory)
        member_files = MemberFiles(config.exec_root / "swarm")
        # Of a daemon that was killed; a manager that starts locked has its key nowhere.
        member_files.remove()
        payloads = PayloadFiles(config.exec_root / "payloads")
        executor = ContainerExecutor(
            engine,
            payloads,
            hostname=config.hostname,
            labels=config.engine_labels,
            generic_resources=config.node_generic_resources,
        )

        machine = OwnMachine(
            directory=directory,
            file=directory / STATE_FILE,
            engine=engine,
            payloads=payloads,
            executor=executor,
            rng=random.SystemRandom().random,
            wall=_wall,
        )

        def build(state: NodeState, change_role: Callable[[str], None]) -> SwarmParts:
            if state.role == "worker":
                return WorkerParts(state, machine, change_role=change_role)
            return ManagerParts(
                state,
                machine,
                peer_port=config.swarm_peer_port,
                member_files=member_files,
                change_role=change_role,
                serve_api=forwarded.serve,
                keys=keys,
                new_id=new_id,
                now=lambda: Now(time.monotonic(), _wall()),
            )

        return Membership(
            directory,
            build=build,
            interfaces=host_interfaces.read,
            default_advertise=config.swarm_default_advertise_addr,
            founder=Founder(new_id=new_id, wall=_wall, describe=executor.describe, keys=keys),
            keys=keys,
            sweep=executor.remove_strays,
            rng=machine.rng,
            wall=_wall,
        )

    def _facts(self, engine: Engine) -> DaemonFacts:
        config, runtimes = self._config, engine.containers.runtimes
        return DaemonFacts(
            id=_engine_id(config.data_root / ENGINE_ID_FILE),
            name=config.hostname,
            data_root=str(config.data_root),
            labels=config.labels,
            debug=config.debug,
            insecure_registries=config.insecure_registries,
            registry_mirrors=config.registry_mirrors,
            default_address_pools=config.default_address_pools,
            insecure_listeners=listeners.insecure_addresses(config),
            runtimes={one.name: RuntimeFacts(one.program, one.arguments) for one in runtimes},
            default_runtime=runtimes.default.name,
            generic_resources=config.node_generic_resources,
        )


def _wall() -> datetime:
    return datetime.now(UTC)


def _pools(config: DaemonConfig) -> list[SubnetPool]:
    if not config.default_address_pools:
        return list(DEFAULT_POOLS)
    try:
        return [SubnetPool(IPv4Network(base), size) for base, size in config.default_address_pools]
    except ValueError as error:
        raise ConfigError(f"invalid default address pool: {error}") from error


def _engine_id(path: Path) -> str:
    """The daemon's identity, stable over restarts; made at the first one."""
    try:
        known = path.read_text().strip()
    except FileNotFoundError:
        known = ""
    if known:
        return known
    made = new_id()
    path.write_text(made + "\n")
    return made
