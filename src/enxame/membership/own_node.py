"""This machine as a node of the swarm, manager or worker: its agent, its session with the manager that leads, and what
it remembers of the swarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from enxame.agent.agent import Agent
from enxame.agent.container_executor import ContainerExecutor
from enxame.agent.database import TaskDatabase
from enxame.agent.payloads import PayloadFiles
from enxame.engine.engine import Engine
from enxame.errors import PermissionDenied, Unavailable
from enxame.manager.admission import REMOVED
from enxame.membership import host_shutdown, state_file
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.self_description import Shown, described
from enxame.membership.state_file import NodeState
from enxame.membership.worker_session import WorkerSession
from enxame.model.dispatch import Assignments
from enxame.model.node import NodeDescription
from enxame.transport.methods import SessionNews

__all__ = ["OwnMachine", "OwnNode"]

TASK_DATABASE: Final = "tasks.db"


@dataclass(frozen=True, slots=True)
class OwnMachine:
    """What a node's tasks run on. ``directory`` is the swarm's, ``file`` the one in it that says what the node is."""

    directory: Path
    file: Path
    engine: Engine
    payloads: PayloadFiles
    executor: ContainerExecutor
    rng: Callable[[], float]
    wall: Callable[[], datetime]


class OwnNode:
    """``shown`` says what a description is to show of the certificate; ``heard`` is told what managers say. On a
    manager, ``own_address`` is where it need not ask, and ``trouble`` why it has no part in the managers' agreement;
    ``manager_trouble`` is why this node could not be a manager (both empty when all is well).
    """

    def __init__(
        self,
        state: NodeState,
        machine: OwnMachine,
        own: OwnIdentity,
        *,
        shown: Callable[[], Shown],
        heard: Callable[[SessionNews, str], Awaitable[None]],
        own_address: str = "",
        trouble: Callable[[], str] = str,
        manager_trouble: Callable[[], str] = str,
    ) -> None:
        #: As it is on the disk, too, unless that is full.
        self.state = state
        #: Why the swarm refuses this node; empty when it does not.
        self.error = ""
        self.agent = Agent(
            executor=machine.executor,
            networks=machine.engine.networks,
            database=TaskDatabase(machine.directory / TASK_DATABASE),
            payloads=machine.payloads,
            wall=machine.wall,
        )
        self.session = WorkerSession(
            self.agent,
            context=lambda: own.client_context,
            describe=lambda: self.described(shown()),
            incarnation=lambda: self.state.incarnation,
            read_log=machine.executor.read_log,
            rng=machine.rng,
            managers=state.managers,
            heard=heard,
            refused=self._was_refused,
            own=own_address,
            trouble=trouble,
            manager_trouble=manager_trouble,
        )
        self._machine = machine
        self._settled = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    def described(self, shown: Shown) -> NodeDescription:
        """This node, with what is given of its certificate."""
        return described(self._machine.executor.describe(), self.state, shown)

    async def remember(self, state: NodeState) -> None:
        """Take another state, on the disk as well if that can be."""
        if state != self.state:
            self.state = state
            with suppress(OSError):  # the disk may be full: the old one has to do
                await asyncio.to_thread(state_file.write, self._machine.file, state)

    # -- taken or refused

    def taken(self) -> None:
        """The swarm has taken this node: whoever waits for that goes on."""
        self.error = ""
        self._settled.set()

    def ask_again(self) -> None:
        """Whoever waits from now on waits for what the swarm says next."""
        self.error = ""
        self._settled.clear()

    async def answered(self) -> None:
        """Wait until the swarm took this node or refused it: :attr:`error` says which."""
        await self._settled.wait()

    async def settled(self) -> None:
        """Wait until the swarm took this node. Raises Unavailable when it was refused."""
        await self.answered()
        if self.error:
            raise Unavailable(self.error)

    async def _was_refused(self, refusal: PermissionDenied) -> None:
        self.error = refusal.message
        self._settled.set()
        if REMOVED in refusal.message:
            # Its tasks run elsewhere by now, and its secrets are not for it any more.
            await self.agent.apply(Assignments(complete=True))

    # -- what runs until the end

    def keep_running(self, loop: Coroutine[Any, Any, None], name: str) -> None:
        """Run something until :meth:`end_loops`."""
        self._loops.append(asyncio.get_running_loop().create_task(loop, name=name))

    async def end_loops(self) -> None:
        """End what :meth:`keep_running` began."""
        loops, self._loops = self._loops, []
        for task in loops:
            task.cancel()
        if loops:
            await asyncio.wait(loops)

    async def say_back_soon(self) -> None:
        """The manager hears that this daemon will be back, unless the machine itself goes down."""
        if not await host_shutdown.is_under_way():
            await self.session.say_back_soon()
