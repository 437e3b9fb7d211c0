"""The directory of all machines: ``machines/NAME/config.json``, certificates beside it and in ``certs/``."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from enxame.machine.errors import MachineError, MachineExists, NoSuchMachine
from enxame.machine.record import Record, check_name

#: Seconds that another command may hold a lock that is wanted.
_LOCK_DEADLINE: Final = 60.0


def default_path() -> Path:
    """Where the store is when no flag says so."""
    named = os.environ.get("MACHINE_STORAGE_PATH") or os.environ.get("ENXAME_MACHINE_STORAGE")
    return Path(named) if named else Path("~/.enxame/machine").expanduser()


class MachineStore:
    """Files are replaced as a whole: a reader sees the old or the new."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.certs = self.path / "certs"

    def directory(self, name: str) -> Path:
        """A machine's own directory."""
        return self.path / "machines" / name

    def names(self) -> list[str]:
        """All machines, sorted."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(
                entry.name
                for entry in os.scandir(self.path / "machines")
                if os.path.exists(f"{entry.path}/config.json")
            )
        return []

    def exists(self, name: str) -> bool:
        """Whether there is a machine of that name."""
        return (self.directory(name) / "config.json").exists()

    def reserve(self, name: str) -> Path:
        """A directory for a new machine. Raises MachineExists, MachineError for a bad name."""
        check_name(name)
        if self.exists(name):
            raise MachineExists(name)
        directory = self.directory(name)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return directory

    def load(self, name: str) -> Record:
        """Raises NoSuchMachine, MachineError for a file that cannot be read."""
        try:
            return msgspec.json.decode((self.directory(name) / "config.json").read_bytes(), type=Record)
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchMachine(name) from None
        except (msgspec.MsgspecError, ValueError) as problem:
            raise MachineError(f"Error loading machine {name}: {self.directory(name)}/config.json: {problem}") from None

    def save(self, record: Record) -> None:
        """Durable when it returns."""
        text = msgspec.json.format(msgspec.json.encode(record), indent=4)
        write_file(self.directory(record.name) / "config.json", text)

    def remove(self, name: str) -> None:
        """Forgets the machine; nothing that it needs may still be mounted there."""
        directory = self.directory(name)
        with contextlib.suppress(FileNotFoundError):
            # First: a directory without it is no machine, whatever of the rest is left by an interruption.
            (directory / "config.json").unlink()
        shutil.rmtree(directory, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, name: str = "store") -> Iterator[None]:
        """Excludes other commands from ``name`` (a machine, the network …). Raises MachineError when it stays taken."""
        folder = self.path / "locks"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take(descriptor, name)
            yield
        finally:
            os.close(descriptor)


def _take(descriptor: int, name: str) -> None:
    deadline = time.monotonic() + _LOCK_DEADLINE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise MachineError(
                    f"{name} is busy: another command has worked on it for {_LOCK_DEADLINE:.0f} s"
                ) from None
            time.sleep(0.02)  # flock has no deadline of its own
        else:
            return


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces a file as a whole, durably."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(new, path)
