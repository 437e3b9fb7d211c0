"""docker-py, unmodified."""

import gc
import io
import tarfile
from collections.abc import Iterator

import docker
import pytest
from docker.errors import APIError, ContainerError, ImageLoadError, ImageNotFound, NotFound
from docker.types import EndpointSpec, Mount, RestartPolicy, ServiceMode, UpdateConfig

from enxame.testing.daemons import Daemon, wait_until
from tests.clients.command import IMAGE
from tests.conftest import remove_containers

pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def client(daemon: Daemon) -> Iterator[docker.DockerClient]:
    made = docker.DockerClient(base_url=daemon.url, version="auto")
    yield made
    remove_containers(daemon)
    made.close()
    gc.collect()  # docker-py leaves sockets of streams open: they are to be met here, not in another test


def test_ping_version_and_info(client: docker.DockerClient) -> None:
    assert client.ping() is True
    version = client.version()
    assert tuple(map(int, version["ApiVersion"].split("."))) >= (1, 41)
    assert tuple(map(int, version["MinAPIVersion"].split("."))) <= (1, 24)
    info = client.info()
    assert info["OSType"] == "linux"
    assert info["Containers"] == 0
    assert info["NCPU"] > 0


def test_run_returns_output_and_removes_the_container(client: docker.DockerClient) -> None:
    assert client.containers.run(IMAGE, ["echo", "hello"], remove=True) == b"hello\n"
    assert client.containers.list(all=True) == []


def test_run_raises_with_code_and_standard_error(client: docker.DockerClient) -> None:
    with pytest.raises(ContainerError) as caught:
        client.containers.run(IMAGE, ["sh", "-c", "echo bad >&2; exit 4"], remove=True)
    assert caught.value.exit_status == 4
    assert b"bad" in caught.value.stderr


def test_a_containers_life(client: docker.DockerClient) -> None:
    container = client.containers.run(IMAGE, detach=True, name="life", labels={"a": "b"}, environment={"X": "1"})
    assert container.status == "created"
    container.reload()
    assert container.status == "running"
    assert [each.id for each in client.containers.list(filters={"label": "a=b"})] == [container.id]
    assert "X=1" in container.attrs["Config"]["Env"]
    container.stop(timeout=5)
    assert container.wait()["StatusCode"] == 0
    container.start()
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.remove()
    with pytest.raises(NotFound, match="No such container"):
        client.containers.get(container.id)


def test_logs_as_a_whole_and_as_a_stream(client: docker.DockerClient) -> None:
    container = client.containers.run(
        IMAGE, ["sh", "-c", "echo 1; sleep 0.3; echo 2 >&2; sleep 0.3; echo 3"], detach=True
    )
    assert b"".join(container.logs(stream=True, follow=True)).split() == [b"1", b"2", b"3"]
    assert container.logs(stderr=False) == b"1\n3\n"
    assert container.logs(tail=1) == b"3\n"


def test_exec_with_demultiplexed_streams(client: docker.DockerClient) -> None:
    container = client.containers.run(IMAGE, detach=True)
    # docker-py loses output that reaches it together with the answer's head, which happens when it is kept waiting.
    code, (out, err) = container.exec_run(["sh", "-c", "sleep 0.3; echo out; echo err >&2; exit 6"], demux=True)
    assert (code, out, err) == (6, b"out\n", b"err\n")
    assert container.exec_run(["sh", "-c", "sleep 0.3; hostname"]).output.decode().strip() == container.id[:12]


def test_attached_output_is_streamed(client: docker.DockerClient) -> None:
    container = client.containers.create(IMAGE, ["sh", "-c", "echo one; echo two"])
    stream = container.attach(stream=True, logs=True)
    container.start()
    assert b"".join(stream) == b"one\ntwo\n"


def test_stats_once_and_streamed(client: docker.DockerClient) -> None:
    container = client.containers.run(IMAGE, detach=True)
    once = container.stats(stream=False)
    assert once["memory_stats"]["usage"] > 0
    assert once["cpu_stats"]["cpu_usage"]["total_usage"] >= 0
    stream = container.stats(stream=True, decode=True)
    assert next(stream)["id"] == container.id
    stream.close()


def test_mounts_limits_and_networks(client: docker.DockerClient, tmp_path) -> None:
    (tmp_path / "f").write_text("x")
    volume = client.volumes.create("pyvol", labels={"k": "v"})
    mounts = [Mount("/data", "pyvol"), Mount("/host", str(tmp_path), type="bind", read_only=True)]
    output = client.containers.run(
        IMAGE,
        ["sh", "-c", "cat /host/f; touch /data/g; ls /data"],
        mounts=mounts,
        mem_limit="32m",
        nano_cpus=500_000_000,
        pids_limit=50,
        network_mode="none",
        remove=True,
    )
    assert output == b"xg\n"
    assert [each.name for each in client.volumes.list(filters={"label": "k=v"})] == ["pyvol"]
    volume.remove()
    assert {"bridge", "host", "none"} <= {network.name for network in client.networks.list()}


def test_a_published_port(client: docker.DockerClient, daemon: Daemon) -> None:
    container = client.containers.run(IMAGE, detach=True, ports={"80/tcp": 8200})
    container.reload()
    assert container.ports["80/tcp"][0]["HostPort"] == "8200"

    def answer() -> str:
        try:
            return daemon.network.outside.http_get(daemon.network.host_address, 8200).strip()
        except OSError:  # the server does not listen yet
            return ""

    assert wait_until(answer, "the container answers") == container.id[:12]


def test_images(client: docker.DockerClient) -> None:
    image = client.images.get(IMAGE)
    assert image.tag("py/name", "v1")
    assert "py/name:v1" in client.images.get("py/name:v1").tags
    client.images.remove("py/name:v1")
    with pytest.raises(ImageNotFound):
        client.images.get("py/name:v1")
    with pytest.raises(ImageNotFound):
        client.containers.create("no/such/image")
    assert image.history()[0]["Id"]


def test_an_image_can_be_loaded_from_an_archive(client: docker.DockerClient, sample_archive: bytes) -> None:
    (image,) = client.images.load(io.BytesIO(sample_archive))
    assert IMAGE in image.tags


def test_an_archive_that_is_no_image_is_refused(client: docker.DockerClient) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w"):
        pass
    with pytest.raises((APIError, ImageLoadError)):
        client.images.load(buffer.getvalue())


def test_events_are_streamed(client: docker.DockerClient) -> None:
    events = client.events(decode=True, filters={"type": "container"})
    container = client.containers.create(IMAGE, ["true"])
    container.start()
    container.wait()
    seen = []
    for event in events:
        if event["Actor"]["ID"] == container.id:
            seen.append(event["Action"])
        if event["Action"] == "die":
            break
    events.close()
    assert seen == ["create", "start", "die"]


def test_conflicts_and_bad_requests_have_their_status(client: docker.DockerClient) -> None:
    client.containers.create(IMAGE, name="taken")
    with pytest.raises(APIError) as conflict:
        client.containers.create(IMAGE, name="taken")
    assert conflict.value.status_code == 409
    with pytest.raises(APIError) as bad:
        client.containers.create(IMAGE, name="not valid")
    assert bad.value.status_code == 400


def test_swarm_init_inspect_and_leave(client: docker.DockerClient) -> None:
    node = client.swarm.init(listen_addr="0.0.0.0:2377")
    try:
        assert client.info()["Swarm"]["NodeID"] == node
        client.swarm.reload()
        assert client.swarm.attrs["JoinTokens"]["Worker"].startswith("SWMTKN-1-")
        assert client.swarm.update(task_history_retention_limit=4)
        client.swarm.reload()
        assert client.swarm.attrs["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"] == 4
        with pytest.raises(APIError) as again:
            client.swarm.init()
        assert again.value.status_code == 503
    finally:
        assert client.swarm.leave(force=True)
    with pytest.raises(APIError) as outside:
        client.services.list()
    assert outside.value.status_code == 503


def running(service) -> list[dict]:
    return [task for task in service.tasks({"desired-state": "running"}) if task["Status"]["State"] == "running"]


def test_a_services_life(client: docker.DockerClient, swarm: Daemon) -> None:
    service = client.services.create(
        IMAGE,
        name="py",
        mode=ServiceMode("replicated", replicas=2),
        env=["A=1"],
        labels={"l": "x"},
        container_labels={"c": "y"},
        constraints=["node.role==manager"],
        restart_policy=RestartPolicy("any", delay=100_000_000),
        update_config=UpdateConfig(parallelism=2, monitor=100_000_000),
        endpoint_spec=EndpointSpec(ports={8210: (80, "tcp")}),
    )
    wait_until(lambda: len(running(service)) == 2, "both tasks run")
    (listed,) = client.services.list(filters={"name": "py"})
    assert listed.id == service.id
    service.reload()
    assert service.attrs["Endpoint"]["Ports"][0]["PublishedPort"] == 8210
    first = {task["ID"] for task in running(service)}
    service.update(env=["A=2"])

    def updated() -> bool:
        service.reload()
        return service.attrs.get("UpdateStatus", {}).get("State") == "completed"

    wait_until(updated, "the update is complete", timeout=60)
    wait_until(lambda: len(running(service)) == 2, "both tasks run again")
    assert not first & {task["ID"] for task in running(service)}
    assert service.attrs["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Env"] == ["A=1"]
    service.reload()
    assert service.scale(3)
    wait_until(lambda: len(running(service)) == 3, "three tasks run")
    wait_until(lambda: b"".join(service.logs(stdout=True)).count(b"listens") >= 3, "the logs of all tasks")
    service.remove()
    with pytest.raises(NotFound, match="not found"):
        client.services.get(service.id)
    wait_until(lambda: client.containers.list(all=True, ignore_removed=True) == [], "no container is left", timeout=30)


def test_an_update_of_an_old_version_is_refused(client: docker.DockerClient, swarm: Daemon) -> None:
    service = client.services.create(IMAGE, name="old", mode=ServiceMode("replicated", replicas=0))
    stale = client.services.get(service.id)
    service.reload()
    service.update(labels={"a": "1"}, mode=ServiceMode("replicated", replicas=0))
    with pytest.raises(APIError, match="update out of sequence"):
        stale.update(labels={"a": "2"}, mode=ServiceMode("replicated", replicas=0))


def test_nodes(client: docker.DockerClient, swarm: Daemon) -> None:
    (node,) = client.nodes.list(filters={"role": "manager"})
    assert node.attrs["Status"]["State"] == "ready"
    assert node.attrs["ManagerStatus"]["Leader"] is True
    assert node.update({**node.attrs["Spec"], "Labels": {"zone": "a"}})
    node.reload()
    assert node.attrs["Spec"]["Labels"] == {"zone": "a"}
    with pytest.raises(NotFound):
        client.nodes.get("nothing")
