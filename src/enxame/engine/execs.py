"""All execs of this machine: made, started, looked at; and health probes, which run the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from enxame.engine.attachment import Attachment, ProcessAttachment
from enxame.engine.container import Container
from enxame.engine.exec_session import ExecSession, check_request
from enxame.engine.health import OUTPUT_LIMIT, Probe
from enxame.engine.lifecycle import Lifecycle
from enxame.engine.naming import new_id
from enxame.errors import Conflict, InvalidArgument, NotFound
from enxame.model.exec import ExecCreateRequest, ExecInspect

#: Ended execs that can still be inspected, of one container.
_KEPT = 64


class Execs:
    """``capabilities`` are those that this daemon may hand on."""

    def __init__(
        self,
        life: Lifecycle,
        find: Callable[[str], Container],
        capabilities: frozenset[str],
    ) -> None:
        self._life = life
        self._find = find
        self._capabilities = capabilities
        self._sessions: dict[str, ExecSession] = {}

    def create(self, ref: str, request: ExecCreateRequest) -> str:
        """Define an exec; returns its id. Raises Conflict when the container does not run."""
        container = self._find(ref)
        if not container.running:
            raise Conflict(f"Container {container.id} is not running")
        if container.condition.paused:
            raise Conflict(f"Container {ref} is paused, unpause the container before exec")
        check_request(request)
        session = self._session(container, request)
        self._sessions[session.id] = session
        container.execs[session.id] = session
        self._drop_old(container)
        self._life.around.publish(container, f"exec_create: {_told(session.command)}", execID=session.id)
        return session.id

    def _session(self, container: Container, request: ExecCreateRequest) -> ExecSession:
        identity = new_id()
        # A short name: the runtime puts a socket below it, whose path must not be long.
        return ExecSession(identity, container, request, self._life.around.bundle(container) / f"x{identity[:8]}")

    def _drop_old(self, container: Container) -> None:
        ended = [session.id for session in container.execs.values() if session.exit_code is not None]
        for identity in ended[:-_KEPT]:
            self._sessions.pop(identity, None)
            container.execs.pop(identity, None)

    def forget(self, container: Container) -> None:
        """The container is gone, and with it its execs."""
        for identity in container.execs:
            self._sessions.pop(identity, None)
        container.execs.clear()

    def find(self, identity: str) -> ExecSession:
        """Raises NotFound ``No such exec instance: X``."""
        session = self._sessions.get(identity)
        if session is None:
            raise NotFound(f"No such exec instance: {identity}")
        return session

    async def start(self, identity: str, *, detach: bool, tty: bool) -> Attachment | None:
        """Run it. Attached: its streams, in which also the reason stands when it cannot be run. Detached: None.

        Raises:
            Conflict: it has run before, or the container does not run.
            InvalidArgument: detached, and it cannot be run.
        """
        session = self.find(identity)
        container = session.container
        attachment = await session.begin(
            self._life.around.runtime(container),
            self._capabilities,
            attached=not detach,
            tty=(tty or session.request.tty) and not detach,
        )
        self._life.around.publish(container, f"exec_start: {_told(session.command)}", execID=session.id)
        attachment.linger = lambda work: self._life.around.background.start(work, f"exec streams {identity[:12]}")
        follow = self._life.around.background.start(self._follow(session, attachment), f"exec {identity[:12]}")
        if not detach:
            return attachment
        await session.wait_until_begun(follow)
        if follow.done() and (message := attachment.epilogue.result()):
            raise InvalidArgument(message.decode().strip())
        return None

    async def _follow(self, session: ExecSession, attachment: ProcessAttachment) -> int:
        try:
            code = await session.finish(attachment)
        finally:
            if not attachment.epilogue.done():
                attachment.epilogue.set_result(b"")
        self._life.around.publish(session.container, "exec_die", execID=session.id, exitCode=str(code))
        return code

    def resize(self, identity: str, height: int, width: int) -> None:
        """Set the size of an exec's terminal."""
        self.find(identity).resize(height, width)

    def inspect(self, identity: str) -> ExecInspect:
        """How an exec is."""
        return self.find(identity).show()

    async def probe(self, container: Container, probe: Probe) -> tuple[int, str]:
        """Run a health check: exit code and output.

        Raises:
            TimeoutError: it took too long and was killed.
        """
        request = ExecCreateRequest(cmd=probe.command, attach_stdout=True, attach_stderr=True)
        session = self._session(container, request)
        try:
            runtime = self._life.around.runtime(container)
            attachment = await session.begin(runtime, self._capabilities, attached=True, tty=False)
        except Conflict as error:
            return -1, error.message
        output = bytearray()
        follow = asyncio.ensure_future(session.finish(attachment))
        try:
            async with asyncio.timeout(probe.timeout):
                async for _, data in attachment.frames():
                    output += data[: OUTPUT_LIMIT - len(output)]
                code = await follow
        finally:
            await session.end()
            await asyncio.gather(follow, return_exceptions=True)
            await attachment.close()
        return code, output.decode(errors="replace")


def _told(command: Sequence[str]) -> str:
    """The program, a space, its arguments: also without any, as Docker has it."""
    return f"{command[0]} {' '.join(command[1:])}"
