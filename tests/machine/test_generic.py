"""Machines over SSH, against a real sshd."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.command import columns
from tests.machine.lab import ENXAME, MachineLab
from tests.machine.ssh_host import SshHost

ADDRESS = "10.99.0.2"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def work() -> Iterator[Path]:
    """Not below /var nor /etc: the host lays its own directories over those."""
    with tempfile.TemporaryDirectory(prefix="enxm-ssh-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def remote(lab: MachineLab, work: Path) -> Iterator[SshHost]:
    with SshHost(work / "host", lab.network.outside, installed=True) as host:
        yield host
    for name in lab("machine", "ls", "-q").split():
        lab("machine", "rm", "-f", name)


def flags(host: SshHost) -> list[str]:
    return ["-d", "generic", "--generic-ip-address", ADDRESS, "--generic-ssh-key", str(host.key)]


def test_a_host_becomes_a_machine_that_docker_reaches(lab: MachineLab, remote: SshHost) -> None:
    lab("machine", "create", *flags(remote), "--engine-label", "rack=7", "far")
    (row,) = columns(lab("machine", "ls"))
    assert (row["NAME"], row["DRIVER"], row["STATE"], row["URL"]) == (
        "far",
        "generic",
        "Running",
        f"tcp://{ADDRESS}:2376",
    )
    assert row["DOCKER"].startswith("v"), row
    variables = lab.environment_of("far")
    assert lab.result("docker", "info", "--format", "{{.Name}} {{.Labels}}", **variables).out.startswith("far [")
    assert lab("machine", "ssh", "far", "hostname") == "far"
    assert lab.result(ENXAME, "machine", "ssh", "far", "exit 3").code == 3


def test_files_go_there_and_back(lab: MachineLab, remote: SshHost, work: Path) -> None:
    lab("machine", "create", *flags(remote), "far")
    (work / "tree").mkdir()
    (work / "tree" / "note").write_text("hello")
    lab("machine", "scp", "-r", "-q", str(work / "tree"), "far:/run/tree")
    assert lab("machine", "ssh", "far", "cat /run/tree/note") == "hello"
    lab("machine", "scp", "-q", "far:/run/tree/note", str(work / "back"))
    assert (work / "back").read_text() == "hello"


def test_a_host_that_shows_another_key_is_not_trusted(lab: MachineLab, remote: SshHost) -> None:
    lab("machine", "create", *flags(remote), "far")
    assert ADDRESS in (lab.store / "machines/far/known_hosts").read_text()
    remote.stop()
    SshHost.new_key(remote.directory / "host_key")
    remote.start()
    said = lab.refused("machine", "provision", "far")
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in said or "Host key verification failed" in said
    assert lab.result(ENXAME, "machine", "ssh", "far", "true").code == 255


def test_a_refused_key_is_told_at_once_and_nothing_stays(lab: MachineLab, remote: SshHost, work: Path) -> None:
    SshHost.new_key(work / "stranger")
    said = lab.refused("machine", "create", *flags(remote)[:-1], str(work / "stranger"), "far")
    assert "Permission denied" in said
    assert lab("machine", "ls", "-q") == ""


def test_new_certificates_reach_the_host(lab: MachineLab, remote: SshHost) -> None:
    lab("machine", "create", *flags(remote), "far")
    before = lab("machine", "ssh", "far", "cat /etc/enxame/server.pem")
    lab("machine", "regenerate-certs", "-f", "--client-certs", "far")
    assert lab("machine", "ssh", "far", "cat /etc/enxame/server.pem") != before
    assert lab.result("docker", "version", **lab.environment_of("far")).code == 0
    assert lab("machine", "ssh", "far", "stat -c %a /etc/enxame/server-key.pem") == "600"


def test_what_the_driver_cannot_do_is_said(lab: MachineLab, remote: SshHost) -> None:
    lab("machine", "create", *flags(remote), "far")
    for verb in ("stop", "kill", "restart"):
        assert f"generic driver does not support {verb}" in lab.refused("machine", verb, "far")


def test_flags_come_from_the_environment_too(lab: MachineLab, remote: SshHost) -> None:
    lab(
        "machine",
        "create",
        "far",
        MACHINE_DRIVER="generic",
        GENERIC_IP_ADDRESS=ADDRESS,
        GENERIC_SSH_KEY=str(remote.key),
    )
    assert lab("machine", "ip", "far") == ADDRESS
    assert "requires the --generic-ip-address option" in lab.refused("machine", "create", "-d", "generic", "x")


@pytest.mark.timeout(300)
def test_the_daemon_is_installed_where_it_is_missing(lab: MachineLab, work: Path) -> None:
    wheels = work / "wheels"
    download = [sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "-d", str(wheels)]
    got = subprocess.run(
        [*download, "-r", str(ROOT / "requirements.lock")], capture_output=True, text=True, check=False
    )
    if got.returncode:
        pytest.skip(f"no packages to install from: {got.stderr[-200:]}")
    with SshHost(work / "host", lab.network.outside, installed=False, wheels=wheels) as host:
        result = lab.result(ENXAME, "machine", "create", *flags(host), "bare", timeout=240)
        assert result.code == 0, result
        assert lab("machine", "ssh", "bare", "readlink -f /usr/local/bin/enxamed") == "/opt/enxame/bin/enxamed"
        assert lab.result("docker", "info", "--format", "{{.Name}}", **lab.environment_of("bare")).out.strip() == "bare"
        lab("machine", "rm", "-f", "bare")
