"""The first process of a local machine, seen from the host: started, remembered, found again, ended."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from enxame.machine.errors import MachineError

_START_DEADLINE: Final = 15.0
_BOOT: Final = Path(__file__).with_name("boot.py")


class InitProcess(msgspec.Struct, frozen=True, rename="pascal"):
    """Process ids are used again: only together with its start time (clock ticks since boot) it is the same process."""

    pid: int = 0
    start_time: int = 0
    boot_id: str = ""

    def alive(self) -> bool:
        """Whether the machine runs."""
        if not self.pid or self.boot_id != boot_id():
            return False
        state, started = _state_and_start(self.pid)
        return started == self.start_time and state not in {"Z", "X", ""}

    def end(self, number: signal.Signals, timeout: float) -> bool:
        """Sends the signal and waits for the end; False when it did not come in time."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.alive():
                return True
            signal.pidfd_send_signal(descriptor, number)
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(timeout * 1000))
        except ProcessLookupError:
            return True
        finally:
            os.close(descriptor)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; nothing when the machine does not run."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def boot_id() -> str:
    """Another one after every boot of this host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _state_and_start(pid: int) -> tuple[str, int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", 0
    return fields[0], int(fields[19])


def start(boot_file: Path, log: Path, plug_in: Callable[[int], None]) -> InitProcess:
    """Starts process 1 in new namespaces; ``plug_in`` is called with its id before it goes on.

    Raises MachineError with its own words when it cannot be set up.
    """
    with log.open("ab") as sink:
        starter = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_BOOT), str(boot_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            start_new_session=True,
            cwd="/",
        )
    assert starter.stdin is not None
    assert starter.stdout is not None
    with starter.stdin, starter.stdout:
        number, _, problem = _line(starter.stdout.fileno()).partition(" ")
        starter.wait(_START_DEADLINE)
        if not number.isdigit() or number == "0":
            raise MachineError(f"the machine's namespaces cannot be made: {problem or number or 'see ' + str(log)}")
        pid = int(number)
        process = InitProcess(pid, _state_and_start(pid)[1], boot_id())
        try:
            plug_in(pid)
            with contextlib.suppress(BrokenPipeError):
                starter.stdin.write(b"plugged\n")
                starter.stdin.flush()
            said = _line(starter.stdout.fileno())
            if said != "ready":
                raise MachineError(f"the machine cannot be set up: {said or 'see ' + str(log)}")
        except BaseException:
            process.end(signal.SIGKILL, _START_DEADLINE)
            raise
    return process


def _line(descriptor: int) -> str:
    """One line, without its end; what came when the other side closes or says nothing in time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    said = b""
    while not said.endswith(b"\n") and poll.poll(_START_DEADLINE * 1000):
        byte = os.read(descriptor, 1)
        if not byte:
            break
        said += byte
    return said.decode(errors="replace").strip()
