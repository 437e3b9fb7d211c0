"""The ``enxamed`` program: options, log, signals; the work is in :mod:`enxame.node`."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enxame import __version__, daemon_config, daemon_logging, sd_listen, sd_notify
from enxame.daemon_config import ConfigError, DaemonConfig
from enxame.errors import EnxameError

log = logging.getLogger("enxame.daemon")


def main() -> None:
    """Run the daemon until it is told to stop. Exits with 1 and one line on stderr when it cannot start."""
    try:
        config = daemon_config.load()
        daemon_logging.configure(config.log_level)
        with _sole_user(config.data_root), _pidfile(config.pidfile):
            # conmon leaves a file named "oom" in its working directory, which it has from us.
            os.chdir(config.exec_root)
            _run(config)
    except (ConfigError, EnxameError) as error:
        sys.exit(f"enxamed: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"enxamed: {where}{error.strerror or error}")


def _run(config: DaemonConfig) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config))


async def _serve(config: DaemonConfig) -> None:
    from enxame.node import Node

    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    loop.add_signal_handler(signal.SIGHUP, log.info, "SIGHUP: options are read at the start only")
    node = Node(config, sd_listen.handed_over())
    starting = loop.create_task(node.start(), name="start")
    stopping = loop.create_task(told_to_stop.wait(), name="signal")
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            _spare_collections()
            log.info("enxamed %s is ready", __version__)
            sd_notify.notify("READY=1")
            await stopping
        log.info("stopping; containers go on")
        sd_notify.notify("STOPPING=1")
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.wait({starting, stopping})
        await node.stop()


def _spare_collections() -> None:
    """Leave what the start has made, mostly code, out of all later collections: a full one would hold the event loop
    for 20 ms and more, and find nothing.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def _sole_user(data_root: Path) -> Iterator[None]:
    """Hold the data root: two daemons on one would destroy each other's containers."""
    data_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    descriptor = os.open(data_root / "enxame.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another enxamed uses the data root {data_root}") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _pidfile(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    path.write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
