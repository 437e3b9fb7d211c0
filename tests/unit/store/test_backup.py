import io
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.model.service import Service, ServiceSpec
from enxame.store import backup, backup_file
from enxame.store.backend import Corrupt, Mutation, Record
from enxame.store.backup import Head
from enxame.store.backup_file import Secret
from enxame.store.memory import MemoryBackend
from enxame.store.sqlite import SqliteBackend, write_database
from enxame.store.store import Store

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PASSPHRASE = Secret("passphrase", b"correct horse")

records = st.lists(
    st.builds(
        Record,
        kind=st.sampled_from(["service", "task", "secret"]),
        id=st.text("abc123", min_size=1, max_size=25),
        revision=st.integers(1, 2**40),
        data=st.binary(max_size=200),
    ),
    max_size=20,
)


def head(found, **fields):
    return Head(1, 1, "c1", "n1", 99, len(found), "2026-01-02T00:00:00Z", **fields)


def packed(found, key=None, encryption=None):
    file = io.BytesIO()
    backup.write(file, head(found, encryption=encryption), found, key)
    return file.getvalue()


def unpacked(data, key=None):
    return backup.read(io.BytesIO(data), lambda _head: key)


def encryption(secret=b"s", kind="keyfile"):
    return backup.new_encryption(kind, secret, b"0123456789abcdef")


@given(records)
def test_what_was_written_is_read(found):
    assert unpacked(packed(found)).records == found


@given(records)
def test_what_was_encrypted_is_read_with_its_key_and_checked_without(found):
    described, key = encryption()
    data = packed(found, key, described)
    assert unpacked(data, key).records == found
    assert unpacked(data).records == []


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(records, st.booleans(), st.data())
def test_every_flipped_bit_is_found(found, encrypted, data):
    described, key = encryption() if encrypted else (None, None)
    whole = packed(found, key, described)
    at = data.draw(st.integers(0, len(whole) * 8 - 1))
    broken = bytearray(whole)
    broken[at // 8] ^= 1 << at % 8
    with pytest.raises((Corrupt, InvalidArgument)):
        unpacked(bytes(broken), key)
    with pytest.raises((Corrupt, InvalidArgument)):
        unpacked(bytes(broken))


@given(records, st.data())
def test_every_cut_is_found(found, data):
    whole = packed(found)
    with pytest.raises((Corrupt, InvalidArgument)):
        unpacked(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(records, st.binary(min_size=1, max_size=10))
def test_something_after_the_end_is_found(found, surplus):
    with pytest.raises(Corrupt, match="after its end"):
        unpacked(packed(found) + surplus)


@given(st.binary(max_size=300).filter(lambda data: not data.startswith(b"enxbak")))
def test_anything_else_is_no_backup(data):
    with pytest.raises(InvalidArgument, match="not a backup"):
        unpacked(data)


def test_an_encrypted_backup_shows_nothing_of_its_records():
    described, key = encryption()
    found = [Record("secret", "very-secret-name", 1, b"the password is swordfish")]
    data = packed(found, key, described)
    assert b"swordfish" not in data
    assert b"very-secret-name" not in data


def test_large_states_are_in_several_parts_that_cannot_change_places():
    found = [Record("task", f"t{n}", n + 1, bytes([n]) * 600_000) for n in range(6)]
    described, key = encryption()
    data = packed(found, key, described)
    assert unpacked(data, key).records == found
    # The two first parts have the same length: change them, with all checksums made right again.
    sealed = io.BytesIO(data)
    assert sealed.read(8)
    size = int.from_bytes(data[8:12], "big")
    first = 8 + 8 + size
    length = int.from_bytes(data[first : first + 4], "big")
    second = first + 8 + length
    assert data[second : second + 4] == data[first : first + 4]
    end = second + 8 + length
    body = data[:first] + data[second:end] + data[first:second] + data[end:-32]
    import hashlib

    forged = body + hashlib.sha256(body).digest()
    assert unpacked(forged).records == [], "without the key the checksums are right"
    with pytest.raises(Corrupt, match="part 1 does not decrypt"):
        unpacked(forged, key)


def test_a_newer_format_is_named():
    file = io.BytesIO()
    backup.write(file, replace(head([]), format=2), [])
    with pytest.raises(InvalidArgument, match="format 2"):
        unpacked(file.getvalue())


async def test_a_running_stores_backup_restores_with_versions_into_sqlite(tmp_path):
    store = Store(backend := SqliteBackend(tmp_path / "state.db"))
    await store.start()
    for number in range(5):
        await store.update(lambda tx, n=number: tx.create(Service(id=f"s{n}", spec=ServiceSpec(name=f"n{n}"))))
    path = tmp_path / "swarm.backup"
    made = await backup_file.make(backend, path, cluster_id="c1", node_id="n1", now=NOW, secret=PASSPHRASE)
    assert (made.revision, made.records) == (5, 5)
    assert path.stat().st_mode & 0o777 == 0o600
    await store.update(lambda tx: tx.delete(Service, "s0"))
    before = {s.id: s.version for s in store.view.all(Service)}
    await store.close()

    assert (await backup_file.check(path)).cluster_id == "c1"
    assert (await backup_file.check(path, PASSPHRASE)).records == 5
    found = await backup_file.restore(path, PASSPHRASE)
    write_database(tmp_path / "new.db", found.head.revision, found.records)
    again = Store(SqliteBackend(tmp_path / "new.db"))
    await again.start()
    assert again.revision == 5
    assert {s.id: s.version for s in again.view.all(Service) if s.id != "s0"} == before
    await again.update(lambda tx: tx.delete(Service, "s0"))
    assert again.revision == 6
    await again.close()


async def test_wrong_secrets_are_named(tmp_path):
    backend = MemoryBackend()
    await backend.commit([Mutation("service", "a", b"x")])
    path = tmp_path / "b"
    await backup_file.make(backend, path, cluster_id="c", node_id="n", now=NOW, secret=PASSPHRASE)
    with pytest.raises(InvalidArgument, match="wrong passphrase"):
        await backup_file.check(path, Secret("passphrase", b"other"))
    with pytest.raises(InvalidArgument, match="encrypted with a passphrase"):
        await backup_file.check(path, Secret("keyfile", b"other"))
    with pytest.raises(InvalidArgument, match="its passphrase is needed"):
        await backup_file.restore(path)
    with pytest.raises(InvalidArgument, match="empty"):
        await backup_file.make(backend, path, cluster_id="c", node_id="n", now=NOW, secret=Secret("passphrase", b""))
    with pytest.raises(NotFound, match="no such backup"):
        await backup_file.check(tmp_path / "none")
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(InvalidArgument, match="too short"):
        Secret.from_key_file(tmp_path / "short")


async def test_a_backup_that_cannot_be_written_leaves_the_former_one(tmp_path):
    backend = MemoryBackend()
    directory = tmp_path / "gone"
    with pytest.raises(EnxameError, match="cannot write the backup"):
        await backup_file.make(backend, directory / "b", cluster_id="c", node_id="n", now=NOW)
    path = tmp_path / "b"
    await backup_file.make(backend, path, cluster_id="c", node_id="n", now=NOW)
    before = path.read_bytes()
    await backend.commit([Mutation("service", "a", b"x")])
    (tmp_path / "b2").mkdir()
    with pytest.raises(EnxameError, match="cannot write the backup"):
        await backup_file.make(backend, tmp_path / "b2", cluster_id="c", node_id="n", now=NOW)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "b2"], "no drafts are left"
