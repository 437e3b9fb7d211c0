"""Encryption at rest: what lies on the disk, and what becomes of it when it is changed there."""

from __future__ import annotations

import pytest

from enxame.store.backend import Commit, CommitFailed, Corrupt, Mutation, Record
from enxame.store.memory import MemoryBackend
from enxame.store.sealed import SealedBackend
from enxame.store.sealing import OVERHEAD, Keyring, is_sealed
from enxame.store.sqlite import SqliteBackend

SECRET = b"the password is swordfish, the password is swordfish"


@pytest.fixture
def keys():
    return Keyring.generate()


def put(object_id, data=SECRET):
    return Mutation("secret", object_id, data)


# Records


def test_a_sealed_record_opens_again_and_only_as_itself(keys):
    sealed = keys.seal("secret", "a", SECRET)
    assert is_sealed(sealed)
    assert len(sealed) == len(SECRET) + OVERHEAD
    assert SECRET not in sealed
    assert keys.open("secret", "a", sealed) == SECRET
    assert keys.seal("secret", "a", SECRET) != sealed, "every nonce is used once"
    for kind, object_id in (("config", "a"), ("secret", "b"), ("secre", "ta")):
        with pytest.raises(Corrupt, match=f"{kind} {object_id} cannot be decrypted"):
            keys.open(kind, object_id, sealed)


def test_every_changed_bit_is_found(keys):
    sealed = bytearray(keys.seal("node", "n", b"\x81\xa1a\x01"))
    for position in range(len(sealed)):
        sealed[position] ^= 0x10
        with pytest.raises(Corrupt):
            keys.open("node", "n", bytes(sealed))
        sealed[position] ^= 0x10
    assert keys.open("node", "n", bytes(sealed))


@pytest.mark.parametrize("length", [0, 1, 2, 5, 6, 17, 18, 33])
def test_what_was_cut_off_is_found(keys, length):
    with pytest.raises(Corrupt):
        keys.open("node", "n", keys.seal("node", "n", b"1234")[:length])


def test_another_ring_does_not_open_it(keys):
    with pytest.raises(Corrupt, match="cannot be decrypted"):
        Keyring.generate().open("node", "n", keys.seal("node", "n", b"1"))


def test_a_renewed_ring_opens_old_records_until_the_old_key_is_dropped(keys):
    old = keys.seal("node", "n", b"1")
    keys.renew()
    assert keys.open("node", "n", old) == b"1"
    assert not keys.is_current(old)
    new = keys.seal("node", "n", b"2")
    assert keys.is_current(new)
    keys.drop_old()
    assert keys.open("node", "n", new) == b"2"
    with pytest.raises(Corrupt, match="encrypted with a key that is not known here"):
        keys.open("node", "n", old)
    assert len(keys.keys) == 1


# The backend


@pytest.fixture(params=["memory", "sqlite"])
def inner(request, tmp_path):
    return MemoryBackend() if request.param == "memory" else SqliteBackend(tmp_path / "state.db")


async def test_what_reaches_the_storage_is_encrypted_and_comes_back(inner, keys):
    backend = SealedBackend(inner, keys)
    assert await backend.load() == (0, [])
    assert await backend.commit([put("a"), put("b", b"x")]) == 1
    assert await backend.commit([put("b", None)]) == 2
    assert await backend.load() == (2, [Record("secret", "a", 1, SECRET)])
    (stored,) = (await inner.load())[1]
    assert (stored.kind, stored.id, stored.revision) == ("secret", "a", 1)
    assert SECRET not in stored.data
    await backend.close()


async def test_a_state_from_before_encryption_is_encrypted_when_it_is_loaded(inner, keys, tmp_path):
    await inner.load()
    await inner.commit([put("a"), put("b", b"x" * 9000)])
    await inner.commit([put("a", SECRET + b"2")])
    wanted = [Record("secret", "a", 2, SECRET + b"2"), Record("secret", "b", 1, b"x" * 9000)]

    backend = SealedBackend(inner, keys, take_plain=True)
    revision, found = await backend.load()
    assert (revision, sorted(found, key=lambda record: record.id)) == (2, wanted)
    assert all(is_sealed(record.data) for record in (await inner.load())[1])
    for path in tmp_path.iterdir():
        assert b"swordfish" not in path.read_bytes(), "no copy is left in the file or its log"
    # From then on a record in the clear is somebody else's.
    await inner.commit([put("c")])
    with pytest.raises(Corrupt, match="secret c unencrypted"):
        await backend.load()
    await backend.close()


async def test_a_plain_state_is_not_taken_where_none_is_expected(inner, keys):
    await inner.load()
    await inner.commit([put("a")])
    with pytest.raises(Corrupt, match="unencrypted"):
        await SealedBackend(inner, keys).load()
    await inner.close()


async def test_the_key_is_changed_without_changing_what_is_stored(inner, keys):
    backend = SealedBackend(inner, keys)
    await backend.load()
    await backend.commit([put("a"), put("b", b"2")])
    await backend.commit([put("a", b"1")])
    before = await backend.load()
    old = Keyring(dict(keys.keys), keys.current)

    keys.renew()
    await backend.commit([put("c", b"3")])
    await backend.reseal()
    keys.drop_old()

    revision, found = await backend.load()
    assert revision == 3
    assert [record for record in found if record.id != "c"] == before[1]
    with pytest.raises(Corrupt):
        await SealedBackend(inner, old).load()
    assert await backend.commit([put("a", b"4")]) == 4
    await backend.close()


async def test_a_database_whose_records_were_exchanged_is_refused(tmp_path, keys):
    inner = SqliteBackend(tmp_path / "state.db")
    await inner.load()
    backend = SealedBackend(inner, keys)
    await backend.commit([put("a", b"1"), put("b", b"2")])
    records = {record.id: record.data for record in (await inner.load())[1]}
    await inner.commit([put("a", records["b"]), put("b", records["a"])])
    with pytest.raises(Corrupt, match="cannot be decrypted"):
        await backend.load()
    await backend.close()


async def test_a_rewrite_after_the_end_is_refused(tmp_path, keys):
    backend = SealedBackend(SqliteBackend(tmp_path / "state.db"), keys)
    await backend.load()
    await backend.close()
    with pytest.raises(CommitFailed, match="closed"):
        await backend.rewrite([Record("node", "n", 1, b"1")])


class Following(MemoryBackend):
    """Others commit here, too."""

    def __init__(self, commits):
        super().__init__()
        self._commits = commits

    async def watch(self, after):
        for commit in self._commits:
            if commit.revision > after:
                yield commit


async def test_what_others_committed_is_decrypted(keys):
    theirs = [Commit(1, [put("a", keys.seal("secret", "a", SECRET))]), Commit(2, [put("a", None)]), Commit(3, [])]
    backend = SealedBackend(Following(theirs), keys)
    found = [commit async for commit in backend.watch(0)]
    assert found == [Commit(1, [put("a")]), Commit(2, [put("a", None)]), Commit(3, [])]
