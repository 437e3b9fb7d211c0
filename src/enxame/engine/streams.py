"""Logs, attach and resize: what goes to and comes from a container's own streams."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

from enxame.engine.attachment import Attachment, ContainerAttachment
from enxame.engine.container import Container
from enxame.engine.lifecycle import Lifecycle
from enxame.engine.log_details import describe
from enxame.engine.log_rendering import LogRenderer
from enxame.engine.log_rotation import bounds_of, is_over, rotate
from enxame.engine.logs import read_batches, read_log
from enxame.errors import Conflict, EnxameError, InvalidArgument, Unimplemented
from enxame.model.container import LogConfig
from enxame.model.stream import STDERR, STDOUT, AttachOptions, LogOptions, LogRecord

_log = logging.getLogger(__name__)
#: Logs that have a bound are looked at so often (seconds).
_LOG_LOOK_PERIOD = 1.0
_UNBOUNDED = LogConfig()
#: conmon's command for "open the log again".
_REOPEN_LOG = "2 0 0\n"


class Streams:
    """The streams of all containers."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life

    def logs(self, container: Container, options: LogOptions) -> AsyncIterator[LogRecord]:
        """What the container wrote. Raises Unimplemented when its log driver cannot be read."""
        self._check(container, options)
        return read_log(
            self._life.around.log_path(container),
            options,
            running=lambda: container.running or container.starting,
            ended=container.ended,
        )

    async def log_bytes(
        self, container: Container, options: LogOptions, *, stamps: bool, details: bool
    ) -> AsyncIterator[bytes]:
        """The same in big batches, as clients get it: framed unless it is a terminal's."""
        self._check(container, options)
        renderer = LogRenderer(
            options,
            framed=not container.definition.config.tty,
            stamps=stamps,
            details=describe(container.definition) if details else "",
        )
        batches = read_batches(
            self._life.around.log_path(container),
            options,
            renderer.feed,
            running=lambda: container.running or container.starting,
            ended=container.ended,
        )
        async with aclosing(batches):
            async for batch in batches:
                if batch:
                    yield batch
        if last := renderer.finish():
            yield last

    @staticmethod
    def _check(container: Container, options: LogOptions) -> None:
        if container.definition.log_driver == "none":
            raise Unimplemented("configured logging driver does not support reading")
        if not options.stdout and not options.stderr:
            raise InvalidArgument("Bad parameters: you must choose at least one stream")

    def attach(self, container: Container, options: AttachOptions) -> Attachment:
        """Hold the container's streams. One that does not run yet is joined when it starts."""
        config = container.definition.config
        streams = frozenset(stream for stream, wanted in ((STDOUT, options.stdout), (STDERR, options.stderr)) if wanted)
        attachment = ContainerAttachment(
            tty=config.tty,
            stdin=options.stdin and config.open_stdin,
            streams=frozenset({STDOUT}) if config.tty and options.stdout else streams,
            past=self._past(container, options) if options.logs else None,
        )
        container.attached.add(attachment)
        attachment.released = container.attached.discard
        if not options.stream:
            attachment.abandon()
        elif container.running:
            try:
                attachment.connect(self._life.around.bundle(container))
            except OSError as error:
                raise EnxameError(f"cannot attach to container {container.id}: {error.strerror}") from error
        else:
            container.joining.append(attachment)
        self._life.around.publish(container, "attach")
        return attachment

    async def _past(self, container: Container, options: AttachOptions) -> AsyncIterator[tuple[int, bytes]]:
        wanted = LogOptions(stdout=options.stdout, stderr=options.stderr)
        async for record in read_log(
            self._life.around.log_path(container), wanted, running=lambda: False, ended=container.ended
        ):
            yield record.stream, record.data

    def resize(self, container: Container, height: int, width: int) -> None:
        """Set the terminal's size. Raises Conflict when the container does not run."""
        if not container.running:
            raise Conflict(f"Container {container.id} is not running")
        if not (0 <= height < 65536 and 0 <= width < 65536):
            raise InvalidArgument(f"invalid terminal size: {height} x {width}")
        self._control(container, f"1 {height} {width}\n")
        self._life.around.publish(container, "resize", height=str(height), width=str(width))

    async def bound_logs(self, containers: Mapping[str, Container]) -> None:
        """Rotate logs that outgrow their bounds, until cancelled."""
        while True:
            await asyncio.sleep(_LOG_LOOK_PERIOD)
            for container in list(containers.values()):
                if container.running and container.definition.host.log_config != _UNBOUNDED:
                    await asyncio.to_thread(self._bound_log, container)

    def _bound_log(self, container: Container) -> None:
        path = self._life.around.log_path(container)
        try:
            bounds = bounds_of(container.definition.host.log_config)
        except InvalidArgument:  # made by a daemon that allowed more
            return
        if is_over(path, bounds):
            rotate(path, bounds)
            try:
                self._control(container, _REOPEN_LOG)
            except EnxameError as error:
                _log.warning("the log of container %s cannot be reopened: %s", container.id, error)

    def _control(self, container: Container, command: str) -> None:
        """Tell the monitor something through its control pipe."""
        try:
            control = self._life.around.bundle(container) / "ctl"
            descriptor = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise EnxameError(f"cannot reach the monitor of container {container.id}: {error.strerror}") from error
        try:
            os.write(descriptor, command.encode())
        finally:
            os.close(descriptor)
