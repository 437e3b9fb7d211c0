"""Coming into a swarm and leaving it, with the stock docker command where it has the verb."""

import re
import stat

import pytest

from enxame.testing.cluster import Cluster
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from tests.clients.command import columns

WORKER_TEXT = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager."
)
UNUSED_ROOT = "0" * 50
UNUSED_SECRET = "0" * 25


@pytest.fixture
def outsider(cluster: Cluster):
    """A worker's machine that is in no swarm."""
    worker = cluster.workers[-1]
    node_id = worker.swarm()["NodeID"]
    worker.api.post("/swarm/leave")
    cluster.manager.api.delete(f"/nodes/{node_id}", force="1")
    return worker


def test_a_machine_joins_with_the_command_that_init_showed(cluster: Cluster, outsider, docker) -> None:
    shown = docker(cluster.manager)("swarm", "join-token", "worker")
    command = re.search(r"^    docker (swarm join --token SWMTKN-1-\S+ 10\.98\.0\.1:2377)$", shown, re.M)
    assert command, shown

    assert docker(outsider)(*command[1].split()) == "This node joined a swarm as a worker."

    rows = {row["HOSTNAME"]: row for row in columns(docker(cluster.manager)("node", "ls"))}
    assert set(rows) == {"node1", "node2", "node3"}
    assert {row["STATUS"] for row in rows.values()} == {"Ready"}
    assert [rows[name]["MANAGER STATUS"] for name in sorted(rows)] == ["Leader", "", ""]
    assert rows["node1"]["ID"].endswith("*")
    assert not rows["node3"]["ID"].endswith("*")
    node = cluster.node(outsider)
    assert node["Status"]["Addr"] == outsider.network.host_address
    assert node["Description"]["TLSInfo"] == cluster.manager.api.get("/swarm")["TLSInfo"]

    info = docker(outsider)("info")
    for line in ("Swarm: active", "Is Manager: false", f"Node Address: {outsider.network.host_address}"):
        assert re.search(rf"^ *{line}$", info, re.M), info
    assert re.search(r"^ *Manager Addresses:\n +10\.98\.0\.1:2377$", info, re.M), info
    assert "ClusterID" not in info


def test_the_default_port_may_be_left_out(cluster: Cluster, outsider) -> None:
    cluster.join(outsider, RemoteAddrs=["10.98.0.1"], Availability="drain")
    assert cluster.node(outsider)["Spec"]["Availability"] == "drain"
    assert cluster.node(outsider)["Description"]["DataPathAddr"] == outsider.network.host_address


def test_the_address_for_packets_of_containers_is_told_to_the_managers(cluster: Cluster, outsider) -> None:
    cluster.join(outsider, DataPathAddr="192.0.2.7")
    assert cluster.node(outsider)["Description"]["DataPathAddr"] == "192.0.2.7"


def test_later_addresses_are_tried_when_the_first_does_not_answer(cluster: Cluster, outsider) -> None:
    cluster.join(outsider, RemoteAddrs=["10.98.0.2:2377", "10.98.0.1:2377"])
    assert outsider.state() == "active"


def test_keys_are_for_their_owner_alone(cluster: Cluster) -> None:
    for machine in cluster.machines:
        directory = machine.data_root / "swarm" / "certificates"
        names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        assert names == {"swarm-node.crt": 0o644, "swarm-node.key": 0o600, "swarm-root-ca.crt": 0o644}
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("token", "status", "message"),
    [
        ("nonsense", 400, "invalid join token"),
        (
            "SWMTKN-1-{root}-" + UNUSED_SECRET,
            400,
            "rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster",
        ),
        (
            f"SWMTKN-1-{UNUSED_ROOT}-{UNUSED_SECRET}",
            503,
            f"remote CA does not match fingerprint. Expected: {'0' * 64}",
        ),
    ],
)
def test_a_wrong_token_opens_nothing(cluster: Cluster, outsider, token: str, status: int, message: str) -> None:
    root = cluster.token().split("-")[2]
    with pytest.raises(ApiError) as refused:
        cluster.join(outsider, JoinToken=token.format(root=root))
    assert (refused.value.status, refused.value.message) == (status, message)
    assert outsider.state() == "inactive"
    assert not (outsider.data_root / "swarm" / "node.json").exists()
    assert len(cluster.nodes()) == 2


def test_nobody_listens(cluster: Cluster, outsider) -> None:
    with pytest.raises(ApiError, match=r"cannot reach 10\.98\.0\.2:2377: Connection refused"):
        cluster.join(outsider, RemoteAddrs=["10.98.0.2"])
    assert outsider.state() == "inactive"


def test_joining_goes_on_in_the_background_when_nobody_answers(cluster: Cluster, outsider) -> None:
    token = cluster.token()
    outsider.network.cut()
    with pytest.raises(ApiError) as late:
        cluster.join(outsider, JoinToken=token)
    assert late.value.status == 503
    assert late.value.message.startswith("Timeout was reached before node joined. The attempt to join the swarm will")
    assert outsider.state() == "pending"
    with pytest.raises(ApiError, match="already part of a swarm"):
        cluster.join(outsider, JoinToken=token)
    outsider.network.heal()
    wait_until(lambda: outsider.state() == "active", "the node joined after all")
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are ready")


def test_a_pending_node_can_be_called_off(cluster: Cluster, outsider) -> None:
    outsider.network.cut()
    with pytest.raises(ApiError, match="Timeout was reached"):
        cluster.join(outsider, JoinToken=cluster.token())
    outsider.api.post("/swarm/leave")
    assert outsider.state() == "inactive"


def test_a_rotated_token_is_worth_nothing(cluster: Cluster, outsider, docker) -> None:
    old = cluster.token()
    new = docker(cluster.manager)("swarm", "join-token", "--rotate", "-q", "worker")
    assert new != old
    with pytest.raises(ApiError, match="A valid join token is necessary"):
        cluster.join(outsider, JoinToken=old)
    assert docker(outsider)("swarm", "join", "--token", new, "10.98.0.1") == "This node joined a swarm as a worker."


def test_a_worker_manages_nothing(cluster: Cluster, docker) -> None:
    worker = cluster.workers[0]
    for verb in (("node", "ls"), ("service", "ls"), ("swarm", "join-token", "worker")):
        assert docker(worker).refused(*verb) == f"Error response from daemon: {WORKER_TEXT}"
    with pytest.raises(ApiError) as refused:
        worker.api.get("/services")
    assert refused.value.status == 503
    assert "already part of a swarm" in docker(worker).refused("swarm", "init")


def test_a_worker_leaves_and_joins_again(cluster: Cluster, docker) -> None:
    worker = cluster.workers[0]
    first = worker.swarm()["NodeID"]
    cluster.create_service("web", 3)

    assert docker(worker)("swarm", "leave") == "Node left the swarm."

    assert cluster.nodes()[first]["Status"]["State"] == "down"
    assert worker.state() == "inactive"
    assert worker.task_containers() == []
    assert not (worker.data_root / "swarm").exists()
    wait_until(lambda: len(cluster.running("web")) == 3, "its task runs elsewhere")
    assert first not in cluster.spread("web")

    cluster.join(worker)
    assert worker.swarm()["NodeID"] != first
    assert {node["Status"]["State"] for node in cluster.nodes().values()} == {"ready", "down"}
    assert docker(cluster.manager).refused("node", "inspect", "node2").endswith("node2 is ambiguous (2 matches found)")
    assert docker(cluster.manager)("node", "rm", first) == first
    assert set(cluster.states().values()) == {"ready"}


def test_a_node_that_is_up_is_removed_by_force_alone_and_is_locked_out(cluster: Cluster, docker) -> None:
    worker = cluster.workers[0]
    node_id = worker.swarm()["NodeID"]
    cluster.create_service("web", 3)

    assert docker(cluster.manager).refused("node", "rm", node_id) == (
        f"Error response from daemon: rpc error: code = FailedPrecondition desc = node {node_id} is not down and can't "
        "be removed"
    )
    assert docker(cluster.manager)("node", "rm", "-f", node_id) == node_id

    wait_until(lambda: worker.state() == "error", "the removed node knows", timeout=5)
    assert worker.swarm()["Error"].endswith(f"Permission denied: node {node_id} was removed from swarm")
    wait_until(lambda: len(cluster.running("web")) == 3, "its task runs elsewhere")
    wait_until(lambda: worker.task_containers() == [], "nothing of the swarm runs on it")
    assert node_id not in cluster.nodes()
    assert re.search(r"^ ?Swarm: error$", docker(worker)("info"), re.M)

    worker.stop()
    worker.start()
    wait_until(lambda: worker.state() == "error", "it stays locked out")
    assert docker(worker)("swarm", "leave") == "Node left the swarm."
    assert worker.state() == "inactive"


def test_a_taken_port_leaves_no_swarm_behind(cluster: Cluster, outsider) -> None:
    with outsider.network.host.open_socket() as taken:
        taken.bind(("0.0.0.0", 2377))
        taken.listen()
        with pytest.raises(ApiError) as refused:
            outsider.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
    assert refused.value.message == (
        "could not start the manager: listen tcp 0.0.0.0:2377: bind: address already in use"
    )
    assert outsider.state() == "inactive"
    assert not (outsider.data_root / "swarm").exists()
    outsider.api.post("/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
    outsider.api.post("/swarm/leave", force="1")
