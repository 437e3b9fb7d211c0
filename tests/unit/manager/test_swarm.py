import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from msgspec.structs import replace

from enxame.errors import EnxameError, InvalidArgument
from enxame.manager.swarm import new_cluster
from enxame.model.base import convert
from enxame.model.cluster import InitRequest, SwarmSpec
from enxame.security.ca import create_root, tls_info
from enxame.security.roots import is_issued_by, load_key
from enxame.security.tokens import parse_join_token, parse_unlock_key, root_digest
from tests.unit.manager.conftest import NOW, ROOT

SECOND = 10**9
INVALID = "rpc error: code = InvalidArgument desc = "


def test_a_new_swarm_has_swarms_defaults():
    cluster = new_cluster("c", InitRequest(), ROOT)
    spec = cluster.spec
    assert spec.name == "default"
    assert spec.orchestration.task_history_retention_limit == 5
    assert spec.dispatcher.heartbeat_period == 5 * SECOND
    assert spec.ca_config.node_cert_expiry == 90 * 24 * 3600 * SECOND
    assert (spec.raft.snapshot_interval, spec.raft.keep_old_snapshots) == (10000, 0)
    assert (spec.raft.log_entries_for_slow_followers, spec.raft.election_tick, spec.raft.heartbeat_tick) == (500, 10, 1)
    assert (cluster.default_addr_pool, cluster.subnet_size, cluster.data_path_port) == (["10.0.0.0/8"], 24, 4789)
    assert cluster.tls_info.trust_root == ROOT.cert
    worker, manager = parse_join_token(cluster.join_tokens.worker), parse_join_token(cluster.join_tokens.manager)
    assert worker.digest == manager.digest == root_digest(ROOT.cert)
    assert worker.secret != manager.secret


def test_what_a_client_sets_is_kept():
    request = convert(
        {
            "Spec": {"Orchestration": {"TaskHistoryRetentionLimit": 0}, "Dispatcher": {"HeartbeatPeriod": SECOND}},
            "DefaultAddrPool": ["10.20.0.0/16"],
            "SubnetSize": 26,
            "DataPathPort": 5000,
        },
        InitRequest,
    )
    cluster = new_cluster("c", request, ROOT)
    assert cluster.spec.orchestration.task_history_retention_limit == 0
    assert cluster.spec.dispatcher.heartbeat_period == SECOND
    assert (cluster.default_addr_pool, cluster.subnet_size, cluster.data_path_port) == (["10.20.0.0/16"], 26, 5000)


@pytest.mark.parametrize(
    ("raw", "message", "status"),
    [
        ({"Spec": {"Name": "mine"}}, 'swarm spec must be named "default"', 400),
        (
            {"Spec": {"CAConfig": {"NodeCertExpiry": SECOND}}},
            INVALID + "minimum certificate expiry time is: 1h0m0s",
            400,
        ),
        (
            {"Spec": {"Dispatcher": {"HeartbeatPeriod": -1}}},
            INVALID + "heartbeat time period cannot be a negative duration",
            400,
        ),
        ({"SubnetSize": 30}, "subnet size is out of range: 30", 400),
        ({"DataPathPort": 80}, "Datapath port number is not in valid range (1024-49151) : 80", 400),
        ({"DefaultAddrPool": ["nonsense"]}, "invalid CIDR address: nonsense", 400),
        (
            {"DefaultAddrPool": ["10.0.0.0/8", "10.1.0.0/16"]},
            "default address pool 10.1.0.0/16 overlaps with another one",
            400,
        ),
    ],
)
def test_settings_that_will_not_do_are_refused(raw, message, status):
    with pytest.raises(EnxameError) as caught:
        new_cluster("c", convert(raw, InitRequest), ROOT)
    assert (caught.value.message, caught.value.status) == (message, status)


async def test_inspect_shows_the_tokens_and_info_need_not(manager):
    cluster = manager.swarm.inspect()
    assert cluster.join_tokens.worker.startswith("SWMTKN-1-")
    assert manager.swarm.unlock_key() == ""


async def test_an_update_replaces_the_settings_with_defaults_for_what_is_unset(manager):
    history = convert({"Orchestration": {"TaskHistoryRetentionLimit": 2}, "Labels": {"a": "b"}}, SwarmSpec)
    await manager.swarm.update(manager.swarm.inspect().version.index, history)
    spec = manager.swarm.inspect().spec
    assert (spec.orchestration.task_history_retention_limit, spec.labels) == (2, {"a": "b"})
    await manager.swarm.update(manager.swarm.inspect().version.index, SwarmSpec())
    assert manager.swarm.inspect().spec.orchestration.task_history_retention_limit == 5


async def test_only_the_tokens_asked_for_are_rotated(manager):
    before = manager.swarm.inspect()
    await manager.swarm.update(before.version.index, before.spec, rotate_worker_token=True)
    after = manager.swarm.inspect()
    assert after.join_tokens.worker != before.join_tokens.worker
    assert after.join_tokens.manager == before.join_tokens.manager
    assert parse_join_token(after.join_tokens.worker).digest == root_digest(ROOT.cert)
    await manager.swarm.update(after.version.index, after.spec, rotate_manager_token=True)
    last = manager.swarm.inspect()
    assert last.join_tokens.worker == after.join_tokens.worker
    assert last.join_tokens.manager != after.join_tokens.manager


async def test_a_stale_version_is_out_of_sequence(manager):
    cluster = manager.swarm.inspect()
    await manager.swarm.update(cluster.version.index, cluster.spec)
    with pytest.raises(EnxameError) as caught:
        await manager.swarm.update(cluster.version.index, cluster.spec, rotate_worker_token=True)
    assert caught.value.message == "rpc error: code = Unknown desc = update out of sequence"
    assert manager.swarm.inspect().join_tokens == cluster.join_tokens


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ({"CAConfig": {"NodeCertExpiry": 1}}, InvalidArgument),
        ({"Dispatcher": {"HeartbeatPeriod": -1}}, InvalidArgument),
        ({"CAConfig": {"SigningCAKey": ROOT.key}}, InvalidArgument),
        ({"CAConfig": {"SigningCACert": ROOT.cert}}, InvalidArgument),
        ({"CAConfig": {"ExternalCAs": [{"Protocol": "acme", "URL": "https://ca"}]}}, InvalidArgument),
    ],
)
async def test_updates_that_will_not_do_change_nothing(manager, raw, error):
    before = manager.swarm.inspect()
    with pytest.raises(error):
        await manager.swarm.update(before.version.index, convert(raw, SwarmSpec), rotate_worker_token=True)
    assert manager.swarm.inspect() == before


async def test_a_rotation_is_begun_shown_and_called_off(manager):
    before = manager.swarm.inspect()
    spec = convert({"CAConfig": {"ForceRotate": 1}}, SwarmSpec)
    await manager.swarm.update(before.version.index, spec)
    during = manager.swarm.inspect()
    rotation = during.internal.rotation
    assert during.root_rotation_in_progress
    assert during.join_tokens == before.join_tokens
    assert during.tls_info == replace(tls_info(rotation.ca_cert), trust_root=ROOT.cert)
    assert is_issued_by(rotation.cross_signed, ROOT.cert)
    assert parse_join_token(rotation.join_tokens.worker).digest == root_digest(rotation.ca_cert)

    # The same settings once more ask for nothing.
    await manager.swarm.update(during.version.index, during.spec, rotate_worker_token=True)
    again = manager.swarm.inspect()
    assert again.internal.rotation == rotation
    assert again.join_tokens.worker != during.join_tokens.worker

    back = convert({"CAConfig": {"ForceRotate": 1, "SigningCACert": ROOT.cert, "SigningCAKey": ROOT.key}}, SwarmSpec)
    await manager.swarm.update(again.version.index, back)
    after = manager.swarm.inspect()
    assert (after.root_rotation_in_progress, after.internal.rotation, after.tls_info) == (False, None, before.tls_info)


async def test_a_given_root_is_taken_and_its_key_never_shown(manager):
    given = create_root(NOW)
    spec = convert({"CAConfig": {"SigningCACert": f"\n{given.cert}\n", "SigningCAKey": given.key}}, SwarmSpec)
    await manager.swarm.update(manager.swarm.inspect().version.index, spec)
    found = manager.swarm.inspect()
    assert (found.internal.rotation.ca_cert, found.internal.rotation.ca_key) == (given.cert, given.key)
    assert (found.spec.ca_config.signing_ca_cert, found.spec.ca_config.signing_ca_key) == ("", "")
    same_key = convert({"CAConfig": {"SigningCACert": reissued(ROOT), "SigningCAKey": ROOT.key}}, SwarmSpec)
    with pytest.raises(InvalidArgument, match="Cannot update to a cert with an identical key"):
        await manager.swarm.update(found.version.index, same_key)


def reissued(root):
    """Another certificate for a root's key."""
    old = x509.load_pem_x509_certificate(root.cert.encode())
    key = load_key(root.key)
    builder = (
        x509.CertificateBuilder(old.issuer, old.subject, old.public_key())
        .serial_number(99)
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


# Autolock


@pytest.mark.parametrize(
    "how", [{"AutoLockManagers": True}, {"Spec": {"EncryptionConfig": {"AutoLockManagers": True}}}]
)
def test_a_swarm_that_is_born_locked_has_an_unlock_key(how):
    cluster = new_cluster("c", convert(how, InitRequest), ROOT)
    assert cluster.spec.encryption_config.auto_lock_managers
    assert parse_unlock_key(cluster.internal.unlock_key)
    assert new_cluster("c", InitRequest(), ROOT).internal.unlock_key == ""


async def test_the_unlock_key_comes_goes_and_is_rotated_with_the_lock(manager):
    async def update(*, locked, **given):
        spec = convert({"EncryptionConfig": {"AutoLockManagers": locked}}, SwarmSpec)
        await manager.swarm.update(manager.swarm.inspect().version.index, spec, **given)
        return manager.swarm.unlock_key()

    assert manager.swarm.unlock_key() == ""
    assert await update(locked=False, rotate_unlock_key=True) == ""
    first = await update(locked=True)
    assert parse_unlock_key(first)
    assert await update(locked=True) == first
    second = await update(locked=True, rotate_unlock_key=True)
    assert second not in ("", first)
    assert await update(locked=False) == ""
    assert await update(locked=True) not in ("", first, second)
