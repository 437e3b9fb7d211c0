"""Machines of this host: real namespaces, real daemons, the stock docker command."""

import json
import socket
import ssl
import time
from pathlib import Path

import pytest

from enxame.machine.local.network import LocalNetwork
from enxame.testing.daemons import wait_until
from enxame.testing.promises import allowed
from enxame.testing.sample_image import DEFAULT_TAG as IMAGE
from tests.clients.command import columns, docker_programs
from tests.machine.lab import ENXAME, MachineLab


@pytest.fixture(scope="module")
def vm(lab: MachineLab) -> MachineLab:
    lab("machine", "create", "-d", "local", "--engine-label", "disk=ssd", "vm1")
    return lab


def test_a_machine_has_its_own_name_address_and_processes(vm: MachineLab) -> None:
    assert vm("machine", "ssh", "vm1", "hostname") == "vm1"
    address = vm("machine", "ip", "vm1")
    assert f"{address}/24" in vm("machine", "ssh", "vm1", "ip -4 -o address show eth0")
    first = vm("machine", "ssh", "vm1", "cat /proc/1/cmdline").replace("\0", " ")
    assert "boot.py" in first
    assert vm("machine", "ssh", "vm1", "getent hosts vm1").split()[0] == address


def test_a_machine_has_no_more_than_it_was_given(lab: MachineLab) -> None:
    assert "no size of memory" in lab.refused("machine", "create", "--local-memory", "much", "small")
    lab("machine", "create", "--local-memory", "256m", "--local-cpus", "0.5", "small")
    limits = lab("machine", "ssh", "small", "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us")
    assert limits.split() == [str(256 << 20), "50000"]
    lab("machine", "restart", "small")
    assert lab("machine", "ssh", "small", "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us") == "50000"
    lab("machine", "rm", "-y", "small")


def test_ls_shows_docker_machines_columns(vm: MachineLab) -> None:
    table = vm("machine", "ls")
    assert table.splitlines()[0].split() == ["NAME", "ACTIVE", "DRIVER", "STATE", "URL", "SWARM", "DOCKER", "ERRORS"]
    (row,) = [row for row in columns(table) if row["NAME"] == "vm1"]
    url = f"tcp://{vm('machine', 'ip', 'vm1')}:2376"
    assert (row["ACTIVE"], row["DRIVER"], row["STATE"], row["URL"], row["ERRORS"]) == ("-", "local", "Running", url, "")
    assert row["DOCKER"].startswith("v")
    assert vm("machine", "url", "vm1") == url
    assert vm("machine", "status", "vm1") == "Running"
    assert vm("machine", "ls", "-q", "--filter", "label=disk=ssd", "--filter", "state=Running") == "vm1"
    assert vm("machine", "ls", "-q", "--filter", "label=disk=tape") == ""
    assert "vm1" in vm("machine", "ls", "--format", "{{.Name}} {{.DriverName}}")


@pytest.mark.parametrize("docker", docker_programs())
def test_env_points_the_stock_docker_command_at_the_machine(vm: MachineLab, docker: str) -> None:
    variables = vm.environment_of("vm1")
    assert list(variables) == ["DOCKER_TLS_VERIFY", "DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_MACHINE_NAME"]
    assert vm.result(docker, "info", "--format", "{{.Name}}", **variables).out.strip() == "vm1"
    assert vm.result(ENXAME, "info", "--format", "{{.Name}}", **variables).out.strip() == "vm1"
    assert vm("machine", "active", **variables) == "vm1"
    assert columns(vm("machine", "ls", **variables))[0]["ACTIVE"] == "*"
    options = vm("machine", "config", "vm1").replace('"', "").split()
    assert vm.result(docker, *options, "info", "--format", "{{.Name}}").out.strip() == "vm1"


@pytest.mark.parametrize(
    "docker", ["docker", "docker -H unix:///run/enxame/enxame.sock", "enxame", "env -u DOCKER_HOST docker"]
)
def test_inside_docker_and_enxame_mean_the_machines_daemon(vm: MachineLab, docker: str) -> None:
    assert vm("machine", "ssh", "vm1", f"{docker} info --format '{{{{.Name}}}}'") == "vm1"


def test_ssh_passes_input_output_and_exit_code(vm: MachineLab) -> None:
    result = vm.result(ENXAME, "machine", "ssh", "vm1", "cat; echo oops >&2; exit 7", stdin="typed\n")
    assert (result.code, result.out, result.err) == (7, "typed\n", "oops\n")


def test_ssh_alone_is_a_shell_on_the_machine(vm: MachineLab) -> None:
    typed = "echo at $(hostname) $((40 + 2)); docker info -f {{.Name}}; exit 5\n"
    code, screen = vm.on_terminal("machine", "ssh", "vm1", typed=typed)
    assert code == 5, screen
    assert "at vm1 42" in screen
    assert "\nvm1" in screen.replace("\r", "")


def test_scp_reaches_the_machines_own_directories(vm: MachineLab) -> None:
    here = vm.directory / "note"
    here.write_text("hello")
    vm("machine", "scp", str(here), "vm1:/run/note")
    assert vm("machine", "ssh", "vm1", "cat /run/note") == "hello"
    vm("machine", "scp", "vm1:/run/note", f"{here}.back")
    assert Path(f"{here}.back").read_text() == "hello"
    assert not Path("/run/note").exists()


def test_strangers_cannot_talk_to_the_daemon(vm: MachineLab) -> None:
    context = ssl.create_default_context(cafile=str(vm.store / "machines/vm1/ca.pem"))
    address = vm("machine", "ip", "vm1")
    secured = context.wrap_socket(vm.network.host.connect(address, 2376), server_hostname=address)
    with secured, pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)certificate required|reset"):
        answer_to(secured)


def answer_to(secured: ssl.SSLSocket) -> bytes:
    secured.sendall(b"GET /info HTTP/1.0\r\n\r\n")
    return secured.recv(100)


def test_new_certificates_take_the_old_ones_place(vm: MachineLab) -> None:
    certificate = vm.store / "machines/vm1/server.pem"
    before = certificate.read_text()
    vm("machine", "regenerate-certs", "-f", "vm1")
    address = vm("machine", "ip", "vm1")
    context = ssl.create_default_context(cafile=str(vm.store / "machines/vm1/ca.pem"))
    context.load_cert_chain(vm.store / "machines/vm1/cert.pem", vm.store / "machines/vm1/key.pem")
    with context.wrap_socket(vm.network.host.connect(address, 2376), server_hostname=address) as secured:
        shown = ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")
    assert shown.split() == certificate.read_text().split()
    assert shown.split() != before.split()


def test_containers_end_with_their_machine_and_it_starts_again(vm: MachineLab, sample: Path) -> None:
    vm("machine", "ssh", "vm1", f"enxame load -q -i {sample}")
    vm("machine", "ssh", "vm1", f"enxame run -d --name web {IMAGE}")
    address = vm("machine", "ip", "vm1")
    vm("machine", "stop", "vm1")
    assert vm("machine", "status", "vm1") == "Stopped"
    held = vm.holdings()
    assert not held["processes"]
    assert not held["groups"]
    assert not held["mounts"]
    assert "is already stopped" in vm.result(ENXAME, "machine", "stop", "vm1").err
    assert "not running" in vm.refused("machine", "ssh", "vm1", "true")
    assert "not running" in vm.refused("machine", "env", "vm1")
    vm("machine", "start", "vm1")
    assert vm("machine", "ip", "vm1") == address
    assert vm("machine", "ssh", "vm1", "enxame ps -a --format '{{.Names}} {{.State}}'") == "web exited"
    assert "already running" in vm.result(ENXAME, "machine", "start", "vm1").err


def test_a_killed_machine_keeps_its_data(vm: MachineLab) -> None:
    vm("machine", "ssh", "vm1", "enxame volume create kept")
    vm("machine", "kill", "vm1")
    assert vm("machine", "status", "vm1") == "Stopped"
    vm("machine", "start", "vm1")
    assert "kept" in vm("machine", "ssh", "vm1", "enxame volume ls -q").split()


def test_the_network_is_made_anew_where_a_boot_of_the_host_lost_it(vm: MachineLab) -> None:
    address = vm("machine", "ip", "vm1")
    vm("machine", "kill", "vm1")
    vm.network.host.ip("link", "delete", LocalNetwork(vm.store).bridge)
    vm.network.host.run("nft", "flush", "ruleset")
    vm("machine", "start", "vm1")
    assert columns(vm("machine", "ls"))[0]["URL"] == f"tcp://{address}:2376"
    assert "masquerade" in vm.network.host.run("nft", "list", "ruleset")


def test_a_daemon_that_ends_is_started_again(vm: MachineLab) -> None:
    before = vm("machine", "ssh", "vm1", "cat /run/enxame/enxame.pid")
    vm("machine", "ssh", "vm1", f"kill -9 {before}")

    def another() -> bool:
        return vm.result(ENXAME, "machine", "ssh", "vm1", "enxame info -f '{{.Name}}'").out.strip() == "vm1"

    wait_until(another, "the daemon answers again")
    assert vm("machine", "ssh", "vm1", "cat /run/enxame/enxame.pid") != before


def test_nothing_is_left_of_a_removed_machine(no_machines: MachineLab, sample: Path) -> None:
    lab = no_machines
    names = lab("machine", "ls", "-q").split()
    if names:
        lab("machine", "rm", "-f", *names)
    before = lab.holdings()
    lab("machine", "create", "gone")
    lab("machine", "ssh", "gone", f"enxame load -q -i {sample}; enxame run -d -p 80:80 {IMAGE}")
    assert lab.holdings() != before
    assert lab("machine", "rm", "-y", "gone").splitlines()[-1] == "Successfully removed gone"
    assert lab.holdings() == before
    assert lab("machine", "ls", "-q") == ""
    assert list((lab.store / "machines").iterdir()) == []


def test_rm_asks_first(no_machines: MachineLab) -> None:
    no_machines("machine", "create", "asked")
    no_machines("machine", "rm", "asked", stdin="n\n")
    assert no_machines("machine", "ls", "-q") == "asked"
    no_machines("machine", "rm", "asked", stdin="y\n")
    assert no_machines("machine", "ls", "-q") == ""


def test_machines_that_are_made_at_the_same_time_get_different_addresses(no_machines: MachineLab) -> None:
    makers = [no_machines.start("machine", "create", f"p{number}") for number in range(3)]
    for maker in makers:
        _, said = maker.communicate(timeout=90)
        assert maker.returncode == 0, said
    addresses = no_machines("machine", "ip", "p0", "p1", "p2").split()
    assert len(set(addresses)) == 3
    # The other one's daemon asks for a certificate: it was reached.
    said = no_machines.result(
        ENXAME, "machine", "ssh", "p0", f"curl -sk -m 5 https://{addresses[1]}:2376/_ping; echo $?"
    )
    assert said.out.strip() in {"35", "56"}, said
    no_machines("machine", "stop", "p0", "p1", "p2")
    assert {row["STATE"] for row in columns(no_machines("machine", "ls"))} == {"Stopped"}


def test_a_machine_whose_daemon_cannot_start_is_undone_and_says_why(no_machines: MachineLab) -> None:
    before = no_machines.holdings()
    began = time.monotonic()
    said = no_machines.refused("machine", "create", "--engine-opt", "nonsense=1", "broken")
    assert "the following directives don't match any configuration option: nonsense" in said
    assert time.monotonic() - began < allowed(20)
    assert no_machines("machine", "ls", "-q") == ""
    assert no_machines.holdings() == before


def test_what_cannot_be_is_refused_in_known_words(lab: MachineLab) -> None:
    assert 'Docker machine "nobody" does not exist.' in lab.refused("machine", "ip", "nobody")
    assert "Invalid hostname specified" in lab.refused("machine", "create", "a b")
    assert 'Driver "abacus" not found' in lab.refused("machine", "create", "-d", "abacus", "x")
    said = lab.refused(
        "machine",
        "create",
        "-d",
        "generic",
        "--generic-ip-address",
        "10.99.0.2",
        "--generic-ssh-key",
        "/nowhere",
        "x",
        code=3,
    )
    assert 'Error with pre-create check: "SSH key does not exist' in said
    assert lab("machine", "ls", "-q", "--filter", "name=^x$") == ""


def test_inspect_knows_what_scripts_ask_for(no_machines: MachineLab) -> None:
    no_machines("machine", "create", "seen")
    record = json.loads(no_machines("machine", "inspect", "seen"))
    address = no_machines("machine", "inspect", "-f", "{{.Driver.IPAddress}}", "seen")
    assert record["Driver"]["IPAddress"] == address
    assert socket.inet_aton(address)
    assert record["HostOptions"]["AuthOptions"]["StorePath"] == str(no_machines.store / "machines/seen")
    assert 'Docker machine "seen" already exists' in no_machines.refused("machine", "create", "seen")
