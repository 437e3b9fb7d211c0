"""Options of ``run`` whose effect is seen inside, and wishes that dockerd refuses: the same words from both daemons."""

import asyncio
import time

import aiohttp
import pytest

from enxame.testing.daemons import Daemon
from tests.clients.command import IMAGE, Command

pytestmark = pytest.mark.usefixtures("tidy")


def test_a_fresh_container_shows_no_changes_but_its_own(docker: Command) -> None:
    docker("run", "--name", "box", IMAGE, "sh", "-c", "echo x > /etc/new; mkdir /made")
    assert set(docker("diff", "box").splitlines()) == {"C /etc", "A /etc/new", "A /made"}


def test_a_container_knows_that_it_is_one(docker: Command) -> None:
    docker("run", "--rm", IMAGE, "test", "-e", "/.dockerenv")


def test_stats_of_one_moment_have_the_processors_use(docker: Command) -> None:
    docker("run", "-d", "--name", "busy", IMAGE, "sh", "-c", "while :; do :; done")
    percent = docker("stats", "--no-stream", "--format", "{{.CPUPerc}}", "busy")
    assert float(percent.rstrip("%")) > 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cpuset-cpus", "999"], "Requested CPUs are not available - requested 999, available: "),
        (["--runtime", "nope"], "nope"),
        (["--storage-opt", "size=10g"], "--storage-opt is supported only for overlay over xfs"),
        (["--log-driver", "nope"], 'error looking up logging plugin nope: plugin "nope" not found'),
        (["--pid", "container:nope"], "No such container: nope"),
        (["--network", "container:nope"], "No such container: nope"),
        (["--volumes-from", "nope"], "No such container: nope"),
        (["--link", "nope"], "could not get container for nope: No such container: nope"),
        (["--cap-add", "FLY"], 'invalid CapAdd: unknown capability: "CAP_FLY"'),
        (["--device-read-bps", "/dev/nope:1mb"], "stat /dev/nope: no such file or directory"),
        (["--uts", "host", "--hostname", "x"], "conflicting options: hostname and the UTS mode"),
    ],
)
def test_wishes_that_cannot_be_granted(docker: Command, options: list[str], message: str) -> None:
    said = docker.refused("run", "--rm", *options, IMAGE, "true")
    assert message in said
    # A reference that leads nowhere must not be taken for a missing image.
    assert "Unable to find image" not in said


def test_what_cannot_run_is_told_with_dockers_exit_codes(docker: Command) -> None:
    assert docker.result("run", "--rm", IMAGE, "/nope").code == 127
    directory = docker.result("run", "--rm", IMAGE, "/etc")
    assert directory.code == 126
    assert 'exec: "/etc": permission denied' in directory.err


def test_memory_between_processes_may_be_left_out_or_shared(docker: Command) -> None:
    assert docker.result("run", "--rm", "--ipc", "none", IMAGE, "df", "/dev/shm").code == 1
    docker("run", "--rm", "--ipc", "host", IMAGE, "true")
    docker("run", "-d", "--name", "giver", "--ipc", "shareable", IMAGE, "sh", "-c", "echo hi > /dev/shm/note; sleep 60")
    said = docker("run", "--rm", "--ipc", "container:giver", IMAGE, "sh", "-c", "sleep 0.2; cat /dev/shm/note")
    assert said == "hi"


def test_processes_names_and_network_of_another_container(docker: Command) -> None:
    docker("run", "-d", "--name", "giver", "--hostname", "given", IMAGE, "sleep", "60")
    assert "sleep 60" in docker("run", "--rm", "--pid", "container:giver", IMAGE, "ps")
    assert docker("run", "--rm", "--network", "container:giver", IMAGE, "hostname") == "given"
    said = docker.refused("run", "--rm", "--network", "container:giver", "-p", "80:80", IMAGE, "true")
    assert "conflicting options: port publishing and the container type network mode" in said


def test_links_on_the_default_bridge_give_names_and_variables(docker: Command) -> None:
    docker("run", "-d", "--name", "store", "-e", "KEY=value", IMAGE, "sleep", "60")
    said = docker("run", "--rm", "--link", "store:db", IMAGE, "sh", "-c", "grep -w db /etc/hosts; env")
    address = docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "store")
    assert said.split()[0] == address
    assert f"DB_PORT=tcp://{address}:80" in said
    assert "DB_ENV_KEY=value" in said


def test_a_renamed_container_is_found_by_its_new_name_alone(docker: Command) -> None:
    docker("network", "create", "named")
    for name in ("asker", "before"):
        docker("run", "-d", "--name", name, "--network", "named", "--dns", "127.0.0.1", IMAGE, "sleep", "60")
    docker("rename", "before", "after")
    assert "Address" in docker("exec", "asker", "nslookup", "after")
    assert docker.result("exec", "asker", "nslookup", "before").code != 0
    listed = docker("network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "named")
    assert set(listed.split()) == {"asker", "after"}
    docker("rm", "-f", "asker", "after")
    docker("network", "rm", "named")


def test_an_image_of_another_platform_is_not_run(docker: Command) -> None:
    assert docker.refused("run", "--rm", "--pull", "never", "--platform", "linux/s390x", IMAGE, "true")


async def converse(daemon: Daemon) -> tuple[list[bytes], int]:
    connector = aiohttp.UnixConnector(str(daemon.socket))
    async with aiohttp.ClientSession("http://daemon/", connector=connector) as client:
        script = "echo ready; read word; echo got $word; exit 3"
        body = {"Image": IMAGE, "Cmd": ["sh", "-c", script], "OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
        made = await (await client.post("/v1.41/containers/create", json=body)).json()
        container = f"/v1.41/containers/{made['Id']}"
        async with client.ws_connect(f"{container}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1") as socket:
            await client.post(f"{container}/start")
            said = [(await socket.receive(timeout=10)).data]
            await socket.send_str("hello\n")
            said.append((await socket.receive(timeout=10)).data)
            closed = await socket.receive(timeout=10)
            assert closed.type is aiohttp.WSMsgType.CLOSE
        ended = await (await client.post(f"{container}/wait")).json()
        plain = await client.get(f"{container}/attach/ws?stream=1")
        assert plain.status == 400
        return said, ended["StatusCode"]


def test_a_browser_speaks_with_a_container_through_a_websocket(daemon: Daemon) -> None:
    said, code = asyncio.run(converse(daemon))
    assert said == [b"ready\n", b"got hello\n"]
    assert code == 3


def test_events_tell_of_mounts_processes_and_files(docker: Command) -> None:
    begun = f"{time.time():.9f}"
    docker("run", "-d", "--name", "box", "-v", "told:/x", IMAGE, "sleep", "60")
    docker("top", "box")
    docker("cp", "box:/etc/passwd", "-")
    docker("exec", "box", "true")
    docker("commit", "box", "told:1")
    docker("rm", "-f", "box")
    docker("rmi", "told:1")
    events = ("events", "--since", begun, "--until", f"{time.time():.9f}", "--format", "{{.Type}} {{.Action}}")
    mounts = docker(*events, "--filter", "volume=told").splitlines()
    assert [line for line in mounts if "mount" in line] == ["volume mount", "volume unmount"]
    shown = docker(*events).splitlines()
    for expected in ("container top", "container archive-path", "container exec_create: true ", "image tag"):
        assert expected.strip() in [line.strip() for line in shown]
    docker("volume", "rm", "told")
