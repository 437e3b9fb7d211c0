"""A worker's conversation with the managers: one link at a time, to whichever of them answers."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from enxame.agent.agent import Agent
from enxame.errors import EnxameError, PermissionDenied, Unavailable
from enxame.manager.logs import TaskLogReader
from enxame.model.attachment import Attached, AttachRequest, DetachRequest
from enxame.model.dispatch import Assignments, TaskStatusUpdate
from enxame.model.node import NodeDescription
from enxame.model.stream import LogOptions
from enxame.transport import dialer
from enxame.transport.methods import (
    NODE_ACKNOWLEDGE,
    NODE_ASSIGNMENTS,
    NODE_ATTACH,
    NODE_DETACH,
    NODE_HEARTBEAT,
    NODE_LEAVE,
    NODE_LOGS,
    NODE_REPORT,
    NODE_SESSION,
    NODE_WITHDRAW,
    Acknowledgement,
    Beat,
    Heartbeat,
    LeaveRequest,
    LogLine,
    LogRequest,
    Nothing,
    SessionNews,
    SessionRequest,
    StatusReport,
    Withdrawal,
)
from enxame.transport.peer import Peer, Served

log = logging.getLogger(__name__)

REGISTRATION_DEADLINE: Final = 20.0
LEAVE_DEADLINE: Final = 3.0
#: A daemon that stops says that it will be back within so many seconds, in one call of at most so many.
PLANNED_ABSENCE: Final = 20.0
ABSENCE_DEADLINE: Final = 1.0
#: A manager that does not answer for so many periods is given up, to try it on a new link. When there are others that
#: is done sooner: should it lead after all, they say so.
PATIENCE: Final = 3.0
PATIENCE_WITH_OTHERS: Final = 1.5
SHORTEST_PERIOD: Final = 0.1
#: A session that held for so long was no failure: the next one is tried at once. Seconds.
LASTING: Final = 2.0
#: So often in a row a node goes on at once to where it was sent.
MOST_HOPS: Final = 4
#: A manager that knows of no other one looks again after so many seconds.
ALONE_DELAY: Final = 0.2
#: Between tries of a node that the swarm refuses: seconds. Only a restored or forgiving manager changes that.
REFUSED_DELAY: Final = 60.0


class RemoteSession:
    """See :class:`enxame.agent.agent.Session`: the same, over a link."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._items = peer.stream(NODE_ASSIGNMENTS, Nothing())

    async def assignments(self) -> Assignments:
        """The next set. Raises Unavailable when the session is over."""
        async for item in self._items:
            return item
        raise Unavailable("the manager ended the session")

    async def update_status(self, updates: list[TaskStatusUpdate]) -> None:
        """Returns once they are committed."""
        await self._peer.call(NODE_REPORT, StatusReport(updates=updates))

    async def withdraw(self, task_id: str) -> None:
        """Returns once nobody sends the task anything new."""
        await self._peer.call(NODE_WITHDRAW, Withdrawal(task_id=task_id))

    async def acknowledge(self, number: int) -> None:
        """Returns once the manager knows."""
        await self._peer.call(NODE_ACKNOWLEDGE, Acknowledgement(number=number))

    async def attach(self, request: AttachRequest) -> Attached:
        """Returns once the leader gave an address."""
        return await self._peer.call(NODE_ATTACH, request)

    async def detach(self, request: DetachRequest) -> None:
        """Returns once it is committed."""
        await self._peer.call(NODE_DETACH, request)

    async def close(self) -> None:
        """No more sets are wanted."""
        await self._items.aclose()


class Redirected(Exception):
    """The manager at hand does not lead; the one at :attr:`address` does."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


def next_manager(managers: Sequence[str], own: str, origin: str, failed: str) -> str:
    """Whom to try after ``origin``: all in turn, but somebody else than who just ``failed`` (perhaps where ``origin``
    sent this node), if there is; empty when nobody is known.
    """
    known = [manager for manager in managers if manager != own]
    start = known.index(origin) + 1 if origin in known else 0
    turn = [*known[start:], *known[:start]]
    return next((manager for manager in turn if manager != failed), turn[0] if turn else "")


class WorkerSession:
    """``managers`` are addresses to begin with; ``heard`` is told all later ones, the first of each link at least.

    On a manager, ``own`` is its own address, where it need not ask, and ``trouble`` why it has no part in the managers'
    agreement; ``manager_trouble`` why this node could not be a manager (both empty when all is well).
    """

    def __init__(
        self,
        agent: Agent,
        *,
        context: Callable[[], ssl.SSLContext],
        describe: Callable[[], NodeDescription],
        incarnation: Callable[[], int],
        read_log: TaskLogReader,
        rng: Callable[[], float],
        managers: Sequence[str],
        heard: Callable[[SessionNews, str], Awaitable[None]],
        refused: Callable[[PermissionDenied], Awaitable[None]],
        own: str = "",
        trouble: Callable[[], str] = str,
        manager_trouble: Callable[[], str] = str,
    ) -> None:
        self._agent = agent
        self._context = context
        self._describe = describe
        self._incarnation = incarnation
        self._hurry = asyncio.Event()
        self._again = False
        self._rng = rng
        self.managers = list(managers)
        self._heard = heard
        self._refused = refused
        self._own = own
        self._trouble = trouble
        self._manager_trouble = manager_trouble
        self._served = Served()
        self._served.stream(NODE_LOGS, self._logs)
        self._read_log = read_log
        #: Of heartbeats, as the manager told: seconds.
        self.period = 1.0
        self._working: asyncio.Task[None] | None = None
        self._leaving = False
        self._said = ""
        #: The link of a session that is registered.
        self.peer: Peer | None = None
        self.opened = asyncio.Event()

    async def run(self) -> None:
        """Keep a session until cancelled. Tasks go on whatever becomes of it."""
        loop = asyncio.get_running_loop()
        delay, hops, target, origin, failed = 0.0, 0, "", "", ""
        while True:
            address = target or next_manager(self.managers, self._own, origin, failed)
            if not address:
                await self._pause(ALONE_DELAY)
                continue
            origin, target = origin if target else address, ""
            began = loop.time()
            try:
                await self._try(address)
            except Redirected as redirect:
                hops += 1
                if hops <= MOST_HOPS and redirect.address != self._own:
                    target = redirect.address
                    continue
            except PermissionDenied as refusal:
                self._say(logging.ERROR, f"the swarm refuses this node: {refusal}")
                await self._refused(refusal)
                await self._pause(REFUSED_DELAY * (0.5 + self._rng() / 2))
                continue
            except EnxameError as error:
                if self._again:
                    self._again, self.peer, target = False, None, address
                    self.opened.clear()
                    continue
                self._say(logging.WARNING, f"no session with the manager at {address}: {error}")
            except Exception:
                log.exception("the session with the manager at %s broke off", address)
            lasted = self.peer is not None and loop.time() - began > LASTING
            self.peer, hops, failed = None, 0, address
            self.opened.clear()
            delay = dialer.next_delay(0.0 if lasted else delay, self._rng())
            if await self._pause(delay + (dialer.spread(self.period, self._rng()) if lasted else 0.0)):
                delay, origin, failed = 0.0, "", ""

    async def _try(self, address: str) -> None:
        """In a task of its own: a group of tasks that fails there may hide that this one is cancelled, or leave it
        looking as if it were.
        """
        attempt = asyncio.get_running_loop().create_task(self._attempt(address), name=f"session with {address}")
        try:
            await asyncio.wait({attempt})
        finally:
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
        attempt.result()

    async def _attempt(self, address: str) -> None:
        deadline = dialer.SHORT_CONNECT_DEADLINE if len(self.managers) > 1 else dialer.CONNECT_DEADLINE
        async with dialer.link(address, self._context(), self._served, connect_deadline=deadline) as peer:
            await self._converse(peer, address)

    def reconnect(self) -> None:
        """Begin a new link, with the certificate of now, in place of the one there is."""
        if self.peer is not None:
            self._again = True
            self.peer.close()

    def look_at(self, addresses: Sequence[str]) -> None:
        """Managers may be found there: they are tried at once, before those that are known."""
        self.managers = list(dict.fromkeys([*addresses, *self.managers]))
        self._hurry.set()
        if self.peer is not None:
            self.peer.close()

    async def _pause(self, delay: float) -> bool:
        """Wait before the next try; True when there are new addresses to look at."""
        try:
            async with asyncio.timeout(delay):
                await self._hurry.wait()
        except TimeoutError:
            return False
        self._hurry.clear()
        return True

    async def end_work(self) -> None:
        """Take no more assignments and report nothing any more; the manager still hears that this node lives."""
        self._leaving = True
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})

    async def say_goodbye(self) -> None:
        """Tell the manager that this node has left. Who hears nothing finds out by itself."""
        if self.peer is not None:
            try:
                await self.peer.call(NODE_LEAVE, LeaveRequest(), deadline=LEAVE_DEADLINE)
            except EnxameError as error:
                log.warning("the manager was not told that this node left: %s", error)

    async def say_back_soon(self) -> None:
        """Tell the manager that this daemon stops, and that its tasks go on until it is back."""
        if self.peer is not None and not self._leaving:
            try:
                request = LeaveRequest(back_within=PLANNED_ABSENCE)
                await self.peer.call(NODE_LEAVE, request, deadline=ABSENCE_DEADLINE)
            except EnxameError as error:
                log.info("the manager was not told that this daemon will be back: %s", error)

    async def _converse(self, peer: Peer, address: str) -> None:
        request = SessionRequest(
            description=self._describe(), incarnation=self._incarnation(), manager_trouble=self._manager_trouble()
        )
        async with aclosing(peer.stream(NODE_SESSION, request)) as news:
            try:
                async with asyncio.timeout(REGISTRATION_DEADLINE):
                    first = await anext(news)
            except (TimeoutError, StopAsyncIteration):
                raise Unavailable("the manager did not take up the session") from None
            if first.redirect:
                raise Redirected(first.redirect)
            self.peer = peer
            await self._take(first, address)
            self.opened.set()
            self._say(logging.INFO, f"in session with the manager at {address}")
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._follow(news, address))
                    group.create_task(self._beat(peer))
                    if not self._leaving:
                        self._working = group.create_task(self._work(peer))
            except ExceptionGroup as failures:
                raise _reason(failures) from failures
            finally:
                self._working = None

    async def _work(self, peer: Peer) -> None:
        session = RemoteSession(peer)
        try:
            await self._agent.run(session)
        finally:
            await session.close()

    async def _follow(self, news: AsyncIterator[SessionNews], address: str) -> None:
        async for item in news:
            await self._take(item, address)
        raise Unavailable("the manager ended the session")

    async def _take(self, news: SessionNews, address: str) -> None:
        if news.incarnation < self._incarnation():
            raise Unavailable(f"the manager at {address} is not of the swarm as it was recovered")
        self.period = news.heartbeat_period
        self.managers = list(dict.fromkeys([*(manager.addr for manager in news.managers), address]))
        await self._heard(news, address)

    async def _beat(self, peer: Peer) -> None:
        while True:
            period = max(self.period, SHORTEST_PERIOD)
            await asyncio.sleep(period * (0.8 + 0.2 * self._rng()))
            patience = PATIENCE_WITH_OTHERS if len(self.managers) > 1 else PATIENCE
            answer: Heartbeat = await peer.call(
                NODE_HEARTBEAT, Beat(trouble=self._trouble()), deadline=patience * period
            )
            self.period = answer.period

    async def _logs(self, _peer: Peer, request: LogRequest) -> AsyncIterator[LogLine]:
        options = LogOptions(
            stdout=request.stdout,
            stderr=request.stderr,
            follow=request.follow,
            tail=request.tail,
            since=request.since,
            until=request.until,
        )
        async for record in self._read_log(request.task, options):
            yield LogLine(stream=record.stream, timestamp=record.timestamp, data=record.data)

    def _say(self, level: int, text: str) -> None:
        """Log what is new; a manager that stays away is worth one line, not one for each try."""
        if text != self._said:
            self._said = text
            log.log(level, "%s", text)


def _reason(failures: ExceptionGroup[Exception]) -> EnxameError:
    """What ended a session; a bug of ours is logged, and a new session starts from a complete set."""
    leaves = list(_leaves(failures))
    for error in leaves:
        if not isinstance(error, (EnxameError, OSError)):
            log.error("the session broke off", exc_info=error)
    first = next((error for error in leaves if isinstance(error, EnxameError)), leaves[0])
    return first if isinstance(first, EnxameError) else Unavailable(str(first) or type(first).__name__)


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, ExceptionGroup) else [error])
    return found
