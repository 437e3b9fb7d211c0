"""The daemon's other doors, with the stock command: mutual TLS, sockets of systemd, and one for who only looks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enxame.testing.daemons import Daemon, wait_until
from enxame.testing.engine_client import EngineClient
from enxame.testing.namespace import HostAndOutside, unmount_below
from tests.clients.command import IMAGE, Command
from tests.conftest import remove_containers
from tests.papers import make_papers

pytestmark = pytest.mark.skipif("config.getoption('--daemon') != 'enxamed'", reason="options of enxamed")


def soon() -> str:
    """A moment after all that has happened: the command's own durations end at whole seconds."""
    return f"{time.time() + 0.1:.6f}"


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def daemon(start_daemon: Callable[..., Daemon], papers: Path, tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    looks = tmp_path_factory.mktemp("l") / "looks.sock"
    options = {"--tlscacert": "ca.pem", "--tlscert": "server.pem", "--tlskey": "server-key.pem"}
    files = [text for option, name in options.items() for text in (option, str(papers / name))]
    daemon = start_daemon("-H", "tcp://127.0.0.1:2376", "--tlsverify", *files, "--read-only-host", f"unix://{looks}")
    daemon.looks = looks  # type: ignore[attr-defined]
    return daemon


@pytest.fixture(autouse=True)
def tidy(daemon: Daemon) -> Iterator[None]:
    yield
    remove_containers(daemon)


class TlsCommand(Command):
    """The command over TCP with a certificate, from inside the daemon's network namespace."""

    def __init__(self, program: str, daemon: Daemon, home: Path, papers: Path, who: str | None) -> None:
        super().__init__("nsenter", daemon, home)
        certificates = home / "papers"
        certificates.mkdir()
        shutil.copy(papers / "ca.pem", certificates / "ca.pem")
        if who:
            shutil.copy(papers / f"{who}.pem", certificates / "cert.pem")
            shutil.copy(papers / f"{who}-key.pem", certificates / "key.pem")
        self._prefix = (f"--net={daemon.network.host.path}", "--", program, "-H", "tcp://127.0.0.1:2376", "--tlsverify")
        self.environment["DOCKER_CERT_PATH"] = str(certificates)
        del self.environment["DOCKER_HOST"]

    def result(self, *argv: str, stdin: str | None = None, timeout: float = 60):  # type: ignore[no-untyped-def]
        return super().result(*self._prefix, *argv, stdin=stdin, timeout=timeout)


@pytest.fixture
def tls_docker(docker: Command, daemon: Daemon, tmp_path: Path, papers: Path) -> TlsCommand:
    return TlsCommand(docker.program, daemon, tmp_path, papers, "client")


def test_standard_input_half_closes_over_tls_and_all_output_comes_back(tls_docker: TlsCommand) -> None:
    text = "".join(f"{number}\n" for number in range(50_000))
    assert tls_docker("run", "-i", "--rm", IMAGE, "cat", stdin=text) == text.rstrip("\n")
    assert tls_docker("run", "-i", "--rm", IMAGE, "sh", "-c", "cat >/dev/null; echo end", stdin=text) == "end"


def test_streams_and_exit_codes_pass_tls(tls_docker: TlsCommand) -> None:
    result = tls_docker.result("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.code, result.out, result.err) == (3, "out\n", "err\n")


def test_attach_exec_logs_and_events_pass_tls(tls_docker: TlsCommand, docker: Command) -> None:
    container = tls_docker("run", "-d", IMAGE, "sh", "-c", "echo begin; while :; do sleep 1; done")
    assert tls_docker("exec", "-i", container, "wc", "-c", stdin="12345").strip() == "5"
    assert tls_docker("logs", container) == "begin"
    docker("kill", container)
    seen = tls_docker("events", "--since", "1", "--until", soon(), "--filter", f"container={container}")
    assert "container kill" in seen


@pytest.mark.parametrize("who", [None, "stranger"])
def test_who_has_no_certificate_of_the_ca_is_refused(
    docker: Command, daemon: Daemon, tmp_path: Path, papers: Path, who: str | None
) -> None:
    refused = TlsCommand(docker.program, daemon, tmp_path, papers, who).refused("ps")
    assert "certificate" in refused or "cert.pem" in refused or "tls" in refused


@pytest.fixture
def looker(docker: Command, daemon: Daemon) -> Command:
    docker.environment["DOCKER_HOST"] = f"unix://{daemon.looks}"  # type: ignore[attr-defined]
    return docker


def test_who_only_looks_sees_containers_logs_and_events_but_no_secrets(looker: Command, daemon: Daemon) -> None:
    created = daemon.api.post(
        "/containers/create", {"Image": IMAGE, "Env": ["PASSWORD=hush"], "Cmd": ["sh", "-c", "echo hello"]}, name="seen"
    )
    daemon.api.post("/containers/seen/start")
    daemon.api.post("/containers/seen/wait")
    assert "seen" in looker("ps", "-a")
    assert looker("logs", "seen") == "hello"
    assert "container create" in looker("events", "--since", "1", "--until", soon(), "--filter", "container=seen")
    environment = json.loads(looker("inspect", "seen", "-f", "{{json .Config.Env}}"))
    assert "PASSWORD=" in environment
    assert "hush" not in looker("inspect", created["Id"])
    assert "hush" in str(daemon.api.get("/containers/seen/json"))


@pytest.mark.parametrize(
    "command",
    [("run", IMAGE), ("rm", "-f", "box"), ("exec", "box", "ls"), ("cp", "box:/etc/passwd", "-"), ("swarm", "init"),
     ("volume", "create"), ("pull", IMAGE), ("export", "box"), ("system", "prune", "-f"), ("attach", "box")],
)  # fmt: skip
def test_who_only_looks_changes_nothing(looker: Command, daemon: Daemon, command: tuple[str, ...]) -> None:
    daemon.api.post("/containers/create", {"Image": IMAGE}, name="box")
    daemon.api.post("/containers/box/start")
    said = looker.refused(*command)
    assert "read-only" in said or "received 403" in said
    assert [one["State"] for one in daemon.api.get("/containers/json", all="1")] == ["running"]


@pytest.fixture
def activated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, subprocess.Popen[bytes]]]:
    """systemd's own program holds two sockets and starts the daemon at the first connection."""
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.skip("needs systemd-socket-activate")
    directory = tmp_path_factory.mktemp("a")
    orders, looks = directory / "orders.sock", directory / "looks.sock"
    roots = ["--data-root", str(directory / "data"), "--exec-root", str(directory / "exec")]
    network = HostAndOutside("t")
    process = subprocess.Popen(
        [
            *network.host.argv(program), "-l", str(orders), "-l", str(looks), "--fdname=orders:looks",
            str(Path(sys.executable).with_name("enxamed")), "--read-only-host", "fd://looks", *roots,
        ],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(orders.exists, "the socket is there")
        yield orders, looks, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        network.close()
        unmount_below(directory)


def test_systemd_hands_sockets_over_and_the_first_request_starts_the_daemon(
    activated: tuple[Path, Path, subprocess.Popen[bytes]],
) -> None:
    orders, looks, process = activated
    assert b"enxamed" not in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[0]
    client = EngineClient(str(orders))
    assert client.get("/containers/json") == []
    assert b"--read-only-host" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert client.post("/volumes/create", {"Name": "made"})["Name"] == "made"
    watcher = EngineClient(str(looks))
    assert [volume["Name"] for volume in watcher.get("/volumes")["Volumes"]] == ["made"]
    assert watcher.exchange("POST", "/volumes/create")[0] == 403
    client.close()
    watcher.close()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    assert orders.exists()
