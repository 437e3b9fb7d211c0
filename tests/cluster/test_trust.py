"""The swarm's root: rotated under a running service, by all nodes or not at all."""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from enxame.membership import certificate_files
from enxame.membership.state_keys import StateKeys
from enxame.security import roots
from enxame.store.backend import Corrupt
from enxame.store.sealed import SealedBackend
from enxame.store.sqlite import SqliteBackend, write_database
from enxame.testing.cfssl import PROGRAM, Cfssl, company_root
from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from enxame.testing.namespace import LanHost
from enxame.testing.sample_image import DEFAULT_TAG


def trust_root(cluster: Cluster) -> str:
    return str(cluster.manager.api.get("/swarm")["TLSInfo"]["TrustRoot"])


def rotate(cluster: Cluster, **config: object) -> None:
    swarm = cluster.manager.api.get("/swarm")
    settings = swarm["Spec"].get("CAConfig", {})
    if not config:
        config = {"ForceRotate": settings.get("ForceRotate", 0) + 1}
    spec = {**swarm["Spec"], "CAConfig": {**settings, **config}}
    cluster.manager.api.post("/swarm/update", spec, version=str(swarm["Version"]["Index"]))


def rotates(cluster: Cluster) -> bool:
    return bool(cluster.manager.api.get("/swarm")["RootRotationInProgress"])


def own(machine: Machine):
    found = certificate_files.read(machine.data_root / "swarm")
    assert found is not None
    return found


def test_the_root_is_rotated_while_a_service_runs(cluster: Cluster, docker) -> None:
    manager = docker(cluster.manager)
    old = trust_root(cluster)
    assert manager("swarm", "ca").strip() == old.strip()
    tokens = cluster.manager.api.get("/swarm")["JoinTokens"]
    cluster.create_service("web", 3)
    tasks = {task["ID"] for task in cluster.running("web")}

    shown = manager("swarm", "ca", "--rotate")

    new = trust_root(cluster)
    assert new != old
    assert new.strip() in shown
    assert "desired root digest: sha256:" in shown
    assert not rotates(cluster)
    assert set(manager("node", "ls", "--format", "{{.TLSStatus}}").split("\n")) == {"Ready"}
    for machine in cluster.machines:
        trusted = own(machine)
        assert (trusted.root, trusted.next_root) == (new, "")
        assert roots.is_issued_by(trusted.certificate, new)
    after = cluster.manager.api.get("/swarm")["JoinTokens"]
    assert not set(after.values()) & set(tokens.values())
    assert {task["ID"] for task in cluster.running("web")} == tasks
    assert set(cluster.states().values()) == {"ready"}

    # The new root is what everybody stands on: all start again with it, and others join with it.
    for machine in cluster.machines:
        machine.stop()
    for machine in cluster.machines:
        machine.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back", timeout=20)
    assert {task["ID"] for task in cluster.running("web")} == tasks
    worker = cluster.workers[-1]
    worker.api.post("/swarm/leave")
    with pytest.raises(ApiError, match="remote CA does not match fingerprint"):
        cluster.join(worker, JoinToken=tokens["Worker"])
    cluster.join(worker)


def test_a_node_that_is_down_keeps_the_rotation_open(cluster: Cluster, docker) -> None:
    manager = docker(cluster.manager)
    old = trust_root(cluster)
    away, gone = cluster.workers
    gone_id = gone.swarm()["NodeID"]
    away.stop()
    gone.stop()
    assert manager("swarm", "ca", "--rotate", "--detach") == ""
    wait_until(lambda: cluster.node(cluster.manager)["Description"]["TLSInfo"]["TrustRoot"] == old, "it is under way")
    status = "{{.Hostname}} {{.TLSStatus}}"

    def statuses() -> dict[str, str]:
        shown = manager("node", "ls", "--format", status)
        return dict(re.findall(r"^(\S+) (.+)$", shown, re.M))

    ready = {"node1": "Ready", "node2": "Needs Rotation", "node3": "Needs Rotation"}
    wait_until(lambda: statuses() == ready, "the manager has a new certificate")
    assert rotates(cluster)
    assert trust_root(cluster) == old
    assert re.search(r"Root Rotation In Progress: true", manager("info"))

    # One that comes back, with a certificate of the old root and knowing no other, is let in and gets a new one.
    away.start()
    wait_until(lambda: statuses()["node2"] == "Ready", "the node that came back has a new certificate", timeout=20)
    assert rotates(cluster)
    wait_until(lambda: cluster.states()[gone_id] == "down", "the other is missed")
    manager("node", "rm", gone_id)
    wait_until(lambda: not rotates(cluster), "nobody is waited for")
    assert trust_root(cluster) != old

    # The one that missed it all is out.
    gone.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "the others are well")
    assert gone.state() in ("pending", "error")
    gone.api.post("/swarm/leave", force="1")


# Signers outside


def listens(host: LanHost) -> bool:
    try:
        host.host.connect(host.host_address, 8888).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="cfssl is not installed")
def test_certificates_come_from_a_signer_outside_and_from_the_swarm_again(
    cluster: Cluster, docker, tmp_path: Path
) -> None:
    manager = docker(cluster.manager)
    company = company_root()
    (tmp_path / "company.pem").write_text(company.cert)
    host = cluster.manager.network
    signer = Cfssl(
        tmp_path / "cfssl",
        company,
        also_trusted=trust_root(cluster),
        address=host.host_address,
        port=8888,
        prefix=host.host.argv(),
    )
    external = f"protocol=cfssl,url={signer.url}"
    given = ("swarm", "ca", "--rotate", "--ca-cert", str(tmp_path / "company.pem"))
    assert manager.refused(*given, "--external-ca", external).endswith(
        "there must be at least one valid, reachable external CA corresponding to the desired CA certificate"
    )
    cluster.create_service("web", 3)
    tasks = {task["ID"] for task in cluster.running("web")}

    with signer:
        wait_until(lambda: listens(host), "cfssl is up")
        assert company.cert.strip() in manager(*given, "--external-ca", external)
        assert trust_root(cluster) == company.cert
        for machine in cluster.machines:
            assert roots.is_issued_by(own(machine).certificate, company.cert)
        assert "    cfssl: " + signer.url in manager("info")

        # Nodes that join get theirs there, too; without it they wait.
        worker = cluster.workers[-1]
        worker.api.post("/swarm/leave")
        cluster.join(worker)
        assert roots.is_issued_by(own(worker).certificate, company.cert)
    worker.api.post("/swarm/leave")
    with ThreadPoolExecutor(1) as aside:
        joining = aside.submit(cluster.join, worker, JoinToken=cluster.token())
        with pytest.raises(TimeoutError):
            joining.result(1.0)
        again = Cfssl(tmp_path / "again", company, address=host.host_address, port=8888, prefix=host.host.argv())
        with again:
            joining.result(20)
    with again:
        wait_until(lambda: listens(host), "cfssl is up")
        for node_id, state in cluster.states().items():
            if state == "down":
                manager("node", "rm", node_id)
        # Back to a root of the swarm's own, which the outer one certifies.
        manager("swarm", "ca", "--rotate")
    assert trust_root(cluster) not in ("", company.cert)
    assert manager("swarm", "update", "--cert-expiry", "72h") == "Swarm updated."
    for machine in cluster.machines:
        assert roots.is_issued_by(own(machine).certificate, trust_root(cluster))
    assert tasks & {task["ID"] for task in cluster.running("web")}


# Encryption at rest, and the lock

LOCKED = (
    "Error response from daemon: Swarm is encrypted and needs to be unlocked before it can be used. Please use "
    '"docker swarm unlock" to unlock it.'
)
SECRET = "the password is swordfish"


def on_disk(machine: Machine, pattern: str = "*") -> bytes:
    """All that the swarm keeps on a machine."""
    directory = machine.data_root / "swarm"
    return b"".join(path.read_bytes() for path in sorted(directory.rglob(pattern)) if path.is_file())


def test_secrets_lie_encrypted_on_the_manager_s_disk(cluster: Cluster) -> None:
    data = base64.b64encode(SECRET.encode()).decode()
    secret = cluster.manager.api.post("/secrets/create", {"Name": "sesame", "Data": data})["ID"]
    token = cluster.token().rsplit("-", 1)[1]
    content = on_disk(cluster.manager)
    for plain in (SECRET.encode(), b"sesame", token.encode()):
        assert plain not in content
    modes = {
        str(path.relative_to(cluster.manager.data_root / "swarm")): stat.S_IMODE(path.stat().st_mode)
        for path in (cluster.manager.data_root / "swarm").rglob("*")
        if path.is_file()
    }
    open_to_all = {name for name, mode in modes.items() if mode != 0o600}
    assert open_to_all <= {"certificates/swarm-node.crt", "certificates/swarm-root-ca.crt"}
    cluster.manager.api.delete(f"/secrets/{secret}")


def test_a_state_from_before_encryption_is_taken_up_and_encrypted(cluster: Cluster) -> None:
    manager = cluster.manager
    cluster.create_service("web", 2)
    nodes, tasks = set(cluster.nodes()), {task["ID"] for task in cluster.running("web")}
    manager.stop()
    directory = manager.data_root / "swarm"

    async def decrypt() -> None:
        keys = StateKeys(directory)
        keys.load()
        sealed = SealedBackend(SqliteBackend(directory / "state.db"), keys.ring)
        revision, records = await sealed.load()
        await sealed.close()
        write_database(directory / "state.db", revision, records)
        keys.remove()

    asyncio.run(decrypt())
    assert b"web" in on_disk(manager, "state.*")

    manager.start()

    assert b"web" not in on_disk(manager, "state.*")
    assert set(cluster.nodes()) == nodes
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back", timeout=20)
    assert {task["ID"] for task in cluster.running("web")} == tasks


def test_a_locked_manager_needs_its_key_after_a_restart_and_its_tasks_run_on(cluster: Cluster, docker) -> None:
    manager = docker(cluster.manager)
    cluster.create_service("web", 3)
    assert manager.refused("swarm", "unlock-key") == "no unlock key is set"
    assert manager.refused("swarm", "unlock") == "Error: swarm is not locked"
    before = (cluster.manager.data_root / "swarm" / "state.key").read_bytes()

    shown = manager("swarm", "update", "--autolock=true")

    key = re.search(r"^    (SWMKEY-1-\S{43})$", shown, re.M)[1]
    assert shown.startswith("Swarm updated.")
    assert "To unlock a swarm manager after it restarts, run the `docker swarm unlock`" in shown
    assert manager("swarm", "unlock-key", "-q") == key
    key_file = cluster.manager.data_root / "swarm" / "certificates" / "swarm-node.key"
    wait_until(lambda: "ENCRYPTED PRIVATE KEY" in key_file.read_text(), "the node's own key is encrypted")
    containers = {machine.network.hostname: machine.task_containers() for machine in cluster.machines}

    cluster.manager.stop()
    cluster.manager.start()

    assert cluster.manager.state() == "locked"
    assert re.search(r"^ ?Swarm: locked$", manager("info"), re.M)
    for verb in (
        ("node", "ls"),
        ("service", "ls"),
        ("swarm", "ca"),
        ("swarm", "join-token", "worker"),
        ("stack", "ls"),
    ):
        assert manager.refused(*verb) == LOCKED, verb
    assert manager.refused("swarm", "leave") == (
        "Error response from daemon: Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore "
        "this message."
    )
    assert {machine.network.hostname: machine.task_containers() for machine in cluster.machines} == containers
    for wrong, status, message in (
        ("nonsense", 400, "invalid key string"),
        ("SWMKEY-1-" + "A" * 43, 401, "swarm could not be unlocked: invalid key provided"),
    ):
        with pytest.raises(ApiError) as refused:
            cluster.manager.api.post("/swarm/unlock", {"UnlockKey": wrong})
        assert (refused.value.status, refused.value.message) == (status, message)
    assert cluster.manager.state() == "locked"
    # What lay open on the disk before the lock opens nothing any more.
    open_then = cluster.manager.data_root / "open"
    open_then.mkdir()
    (open_then / "state.key").write_bytes(before)
    (open_then / "state.db").write_bytes((cluster.manager.data_root / "swarm" / "state.db").read_bytes())
    old = StateKeys(open_then)
    assert old.load()

    async def read() -> None:
        await SealedBackend(SqliteBackend(open_then / "state.db"), old.ring).load()

    with pytest.raises(Corrupt, match="encrypted with a key that is not known here"):
        asyncio.run(read())

    assert manager("swarm", "unlock", stdin=f"{key}\n") == ""

    assert cluster.manager.state() == "active"
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back", timeout=20)
    assert {machine.network.hostname: machine.task_containers() for machine in cluster.machines} == containers

    # Another key takes its place, and the old one is worth nothing.
    newer = re.search(r"^    (SWMKEY-1-\S{43})$", manager("swarm", "unlock-key", "--rotate"), re.M)[1]
    assert newer != key
    cluster.manager.stop()
    cluster.manager.start()
    with pytest.raises(ApiError, match="invalid key provided"):
        cluster.manager.api.post("/swarm/unlock", {"UnlockKey": key})
    cluster.manager.api.post("/swarm/unlock", {"UnlockKey": newer})
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back", timeout=20)

    assert manager("swarm", "update", "--autolock=false") == "Swarm updated."
    wait_until(lambda: "ENCRYPTED" not in key_file.read_text(), "the node's own key is open")
    cluster.manager.stop()
    cluster.manager.start()
    assert cluster.manager.state() == "active"
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all nodes are back", timeout=20)


def test_a_swarm_is_born_locked_and_left_by_force(cluster: Cluster, docker) -> None:
    machine = cluster.workers[-1]
    node_id = machine.swarm()["NodeID"]
    machine.api.post("/swarm/leave")
    cluster.manager.api.delete(f"/nodes/{node_id}", force="1")
    other = docker(machine)
    shown = other("swarm", "init", "--autolock")
    key = re.search(r"^    (SWMKEY-1-\S{43})$", shown, re.M)[1]
    machine.api.post(
        "/services/create", service := {"Name": "s", "TaskTemplate": {"ContainerSpec": {"Image": DEFAULT_TAG}}}
    )
    assert service
    wait_until(lambda: len(machine.task_containers()) == 1, "its task runs")
    machine.stop()
    machine.start()
    assert machine.state() == "locked"
    assert len(machine.task_containers()) == 1
    machine.api.post("/swarm/unlock", {"UnlockKey": key})
    assert machine.state() == "active"
    machine.stop()
    machine.start()
    assert other("swarm", "leave", "--force") == "Node left the swarm."
    assert machine.state() == "inactive"
    wait_until(lambda: machine.task_containers() == [], "its task is gone")
    assert not (machine.data_root / "swarm").exists()
    assert other.refused("swarm", "unlock") == "Error: This node is not part of a swarm"
