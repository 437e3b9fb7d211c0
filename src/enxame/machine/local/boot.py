"""Starts a local machine and is its first process. A program of its own: it knows the standard library alone.

The starter joins the machine's control group, makes its namespaces, forks and reports the child's process id. The
child, process 1 inside, waits until it is told that its network cable is plugged in, mounts what is private to the
machine, starts the daemon and keeps it running. SIGTERM shuts the machine down: the daemon first, then all that still
runs; when process 1 ends, the kernel kills the rest and takes mounts, namespaces and links back. SIGUSR1 restarts the
daemon.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import time
from typing import Any, NoReturn

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = (
    0x20000,
    0x2000000,
    0x4000000,
    0x8000000,
    0x20000000,
    0x40000000,
)
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _SLAVE, _SHARED = 2, 4, 8, 4096, 16384, 1 << 19, 1 << 20
_DETACH = 2

#: Seconds: the daemon's own end, the end of what it leaves, the longest pause between two starts of the daemon.
_DAEMON_DEADLINE, _REST_DEADLINE, _LONGEST_PAUSE = 20.0, 3.0, 5.0
#: How often the daemon ended by itself, while the machine runs.
ENDS_FILE = "/run/machine/daemon-ends"
_HANDLED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    words = [word.encode() or None for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None), f"mount {kind or source} on {target}")


def _hierarchies() -> list[tuple[str, str, str]]:
    """Mount point, type and options of every cgroup hierarchy that is mounted here."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split()
            kind = fields[fields.index("-") + 1]
            if kind in {"cgroup", "cgroup2"} and fields[4].startswith("/sys/fs/cgroup"):
                options = [word for word in fields[-1].split(",") if word not in {"rw", "ro"}]
                found.append((fields[4], kind, ",".join(options) if kind == "cgroup" else ""))
    return found


def _join_groups(hierarchies: list[tuple[str, str, str]], path: str) -> None:
    """Puts this process into the machine's control group of every hierarchy."""
    for place, _, options in hierarchies:
        group = f"{place}/{path}"
        os.makedirs(group, exist_ok=True)
        if "cpuset" in options.split(","):
            _copy_cpuset(place, path)
        with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
            file.write("0")


def _copy_cpuset(place: str, path: str) -> None:
    """A new cpuset has neither processors nor memory: it takes its parent's."""
    parent = place
    for part in path.split("/"):
        group = f"{parent}/{part}"
        for name in ("cpuset.cpus", "cpuset.mems"):
            with open(f"{parent}/{name}", encoding="ascii") as file:
                value = file.read()
            with open(f"{group}/{name}", "r+", encoding="ascii") as file:
                if not file.read().strip():
                    file.write(value)
        parent = group


def _mount_groups(hierarchies: list[tuple[str, str, str]], links: dict[str, str]) -> None:
    """Mounts the hierarchies anew: the machine's own group becomes their root."""
    for place, kind, _ in sorted(hierarchies):
        if place == "/sys/fs/cgroup":
            # No process may be in a group that shares its controllers out: process 1 moves into a leaf.
            _mount("cgroup2", place, kind, _NOSUID | _NODEV | _NOEXEC)
            os.makedirs(f"{place}/init", exist_ok=True)
            with open(f"{place}/init/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
            return
    _mount("tmpfs", "/sys/fs/cgroup", "tmpfs", _NOSUID | _NODEV | _NOEXEC, "mode=755,size=64k")
    for place, kind, options in sorted(hierarchies):
        os.makedirs(place, exist_ok=True)
        _mount(kind, place, kind, _NOSUID | _NODEV | _NOEXEC, options)
    for name, target in links.items():
        os.symlink(target, f"/sys/fs/cgroup/{name}")


def _group_links() -> dict[str, str]:
    base = "/sys/fs/cgroup"
    return {name: os.readlink(f"{base}/{name}") for name in os.listdir(base) if os.path.islink(f"{base}/{name}")}


def _release_foreign_mounts() -> None:
    """Lets go of other containers' roots and namespaces that were copied along: they would be kept busy from here."""
    points = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split()
            if fields[fields.index("-") + 1] in {"overlay", "nsfs"} and fields[4] != "/":
                points.append(fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape"))
    for point in sorted(points, key=len, reverse=True):
        _libc.umount2(point.encode(), _DETACH)


def _private_files(spec: dict[str, Any]) -> None:
    """Directories and files that are the machine's own."""
    resolv = os.path.realpath("/etc/resolv.conf")
    _mount("tmpfs", "/run", "tmpfs", _NOSUID | _NODEV, "mode=755")
    for path, mode in (("/run/lock", 0o1777), ("/run/netns", 0o755), ("/run/enxame", 0o711), ("/run/machine", 0o755)):
        os.makedirs(path)
        os.chmod(path, mode)
    os.symlink("/run/enxame/enxame.sock", "/run/docker.sock")
    os.symlink(spec["command"], "/run/machine/docker")
    os.makedirs("/var/lib/enxame", exist_ok=True)
    _mount(spec["data"], "/var/lib/enxame", flags=_BIND)
    # The daemon's runtime must see what is mounted below; nobody outside the machine does.
    _mount("", "/var/lib/enxame", flags=_SHARED)
    _mount("tmpfs", "/dev/shm", "tmpfs", _NOSUID | _NODEV)
    for target, name in (("/etc/hosts", "hosts"), ("/etc/hostname", "hostname"), (resolv, "resolv.conf")):
        source = f"{spec['directory']}/etc/{name}"
        if target.startswith("/run/"):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "w", encoding="utf-8"):
                pass
        if os.path.exists(target) and os.path.exists(source):
            _mount(source, target, flags=_BIND)


def _furnish(spec: dict[str, Any], hierarchies: list[tuple[str, str, str]]) -> None:
    links = _group_links()
    _mount("", "/", flags=_REC | _SLAVE)
    _release_foreign_mounts()
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    _mount("sysfs", "/sys", "sysfs", _NOSUID | _NODEV | _NOEXEC)
    _mount_groups(hierarchies, links)
    socket.sethostname(spec["name"])
    _private_files(spec)
    _configure_network(spec["network"])


def _configure_network(lines: list[str]) -> None:
    read, write = os.pipe()
    os.write(write, "".join(f"{line}\n" for line in lines).encode())
    os.close(write)
    actions = [(os.POSIX_SPAWN_DUP2, read, 0)]
    pid = os.posix_spawnp("ip", ["ip", "-batch", "-"], dict(os.environ), file_actions=actions)
    os.close(read)
    if os.waitpid(pid, 0)[1]:
        raise OSError(0, "the machine's network could not be set up")


class Init:
    """Process 1: reaps, and keeps the daemon running."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._argv = spec["daemon"]
        self._environment = {**os.environ, **spec["environment"]}
        self._daemon = 0
        self._started = 0.0
        self._pause = 0.1
        self._ends = 0
        self._asked = False

    def run(self) -> NoReturn:
        """Until SIGTERM."""
        self._start()
        due: float | None = None
        while True:
            wait = max(due - time.monotonic(), 0) if due is not None else 3600.0
            got = signal.sigtimedwait(_HANDLED, wait)
            number = got.si_signo if got else 0
            if number in {signal.SIGTERM, signal.SIGINT}:
                self._shut_down()
            if number == signal.SIGUSR1 and self._daemon:
                self._pause, self._asked = 0.0, True
                os.kill(self._daemon, signal.SIGTERM)
            if self._reap() and due is None:
                ran = time.monotonic() - self._started
                self._pause = 0.1 if ran > 2 * _LONGEST_PAUSE else self._pause
                if self._asked:
                    self._asked = False
                else:
                    self._note_end()
                due = time.monotonic() + self._pause
                self._pause = min(max(self._pause, 0.1) * 2, _LONGEST_PAUSE)
            if due is not None and time.monotonic() >= due:
                due = None
                self._start()

    def _start(self) -> None:
        self._started = time.monotonic()
        self._daemon = os.posix_spawn(self._argv[0], self._argv, self._environment, setsigmask=(), setsid=True)

    def _note_end(self) -> None:
        """Lets those who wait for the daemon know that it ended by itself."""
        self._ends += 1
        with open(ENDS_FILE, "w", encoding="ascii") as file:
            file.write(str(self._ends))

    def _reap(self) -> bool:
        """Takes note of everything that ended; True when the daemon did."""
        ended = False
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pid = 0
            if not pid:
                return ended
            if pid == self._daemon:
                self._daemon, ended = 0, True

    def _wait(self, seconds: float, ended: Any) -> None:
        deadline = time.monotonic() + seconds
        while not ended() and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, min(left, 0.2))
            self._reap()

    def _shut_down(self) -> NoReturn:
        if self._daemon:
            os.kill(self._daemon, signal.SIGTERM)
            self._wait(_DAEMON_DEADLINE, lambda: not self._daemon)
        try:
            os.kill(-1, signal.SIGTERM)
        except ProcessLookupError:
            os._exit(0)
        self._wait(_REST_DEADLINE, _alone)
        os._exit(0)


def _alone() -> bool:
    return sum(name.isdigit() for name in os.listdir("/proc")) == 1


def _child(spec: dict[str, Any], hierarchies: list[tuple[str, str, str]]) -> NoReturn:
    if os.read(0, 16) != b"plugged\n":
        os._exit(1)  # whoever makes the machine gave up
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        _furnish(spec, hierarchies)
    except (OSError, KeyError) as problem:
        os.write(1, f"{problem.strerror or problem}\n".encode() if isinstance(problem, OSError) else b"bad boot file\n")
        os._exit(1)
    os.write(1, b"ready\n")
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    Init(spec).run()


def main() -> None:
    """``boot.py BOOT-FILE``; stdin: ``plugged`` when the cable is; stdout: process id, then ``ready`` or a problem."""
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    try:
        hierarchies = _hierarchies()
        _join_groups(hierarchies, spec["group"])
        _check(_libc.unshare(_NEWNS | _NEWCGROUP | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET), "make namespaces")
    except OSError as problem:
        os.write(1, f"0 {problem.strerror or problem}: {problem.filename or ''}\n".encode())
        sys.exit(1)
    pid = os.fork()
    if pid:
        os.write(1, f"{pid}\n".encode())
        os._exit(0)
    os.setsid()
    os.chdir("/")
    _child(spec, hierarchies)


if __name__ == "__main__":
    main()
