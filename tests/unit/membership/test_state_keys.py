"""The file with a manager's keys: open, or locked with the swarm's unlock key."""

from __future__ import annotations

import stat

import pytest

from enxame.errors import EnxameError, InvalidArgument
from enxame.membership.state_keys import STATE_KEY, KeyMaterial, Locked, StateKeys, WrongUnlockKey
from enxame.security.tokens import new_unlock_key

UNLOCK = new_unlock_key()


@pytest.fixture
def keys(tmp_path):
    made = StateKeys(tmp_path)
    made.create()
    return made


def reopened(keys, tmp_path):
    found = StateKeys(tmp_path)
    assert found.load()
    return found


def test_without_a_file_there_are_no_keys(tmp_path):
    keys = StateKeys(tmp_path)
    assert not keys.load()
    assert not keys.known


def test_while_autolock_is_off_the_daemon_starts_by_itself(keys, tmp_path):
    found = reopened(keys, tmp_path)
    assert found.ring.keys == keys.ring.keys
    assert found.passphrase == ""
    assert stat.S_IMODE((tmp_path / STATE_KEY).stat().st_mode) == 0o600


def test_while_it_is_on_only_the_unlock_key_opens_the_file(keys, tmp_path):
    assert keys.protect(UNLOCK)
    assert not keys.protect(UNLOCK), "nothing to do"
    content = (tmp_path / STATE_KEY).read_bytes()
    assert not any(key in content for key in keys.ring.keys.values())

    found = StateKeys(tmp_path)
    with pytest.raises(Locked, match=r'needs to be unlocked .* use "docker swarm unlock" to unlock it\.'):
        found.load()
    with pytest.raises(WrongUnlockKey, match=r"^swarm could not be unlocked: invalid key provided$"):
        found.unlock(new_unlock_key())
    with pytest.raises(InvalidArgument, match=r"^invalid key string$"):
        found.unlock("nonsense")
    assert not found.known
    found.unlock(UNLOCK)
    assert found.ring.keys == keys.ring.keys
    assert found.passphrase == keys.passphrase != ""


def test_another_unlock_key_takes_the_place_of_the_old_one(keys, tmp_path):
    keys.protect(UNLOCK)
    passphrase = keys.passphrase
    newer = new_unlock_key()
    keys.protect(newer)
    found = StateKeys(tmp_path)
    with pytest.raises(WrongUnlockKey):
        found.unlock(UNLOCK)
    found.unlock(newer)
    assert found.passphrase == passphrase, "the node's own key need not be encrypted anew"


def test_autolock_is_turned_off_again(keys, tmp_path):
    keys.protect(UNLOCK)
    passphrase = keys.passphrase
    assert keys.protect("")
    found = reopened(keys, tmp_path)
    assert found.passphrase == ""
    assert found.any_passphrase == passphrase, "the node's own key may still be encrypted, after a crash"


def test_renewed_keys_are_kept(keys, tmp_path):
    keys.ring.renew()
    keys.save()
    assert reopened(keys, tmp_path).ring.current == keys.ring.current
    assert len(reopened(keys, tmp_path).ring.keys) == 2


def test_another_manager_gets_the_data_keys_and_no_passphrase(keys, tmp_path):
    keys.protect(UNLOCK)
    given = keys.material
    assert given.passphrase == ""
    (tmp_path / "other").mkdir()
    other = StateKeys(tmp_path / "other")
    other.create(given)
    assert other.ring.keys == keys.ring.keys
    assert other.any_passphrase != keys.any_passphrase
    assert other.ring.open("node", "n", keys.ring.seal("node", "n", b"1")) == b"1"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"Version": 9}', b'{"Version": 1, "WrappingKey": "QQ=="}'])
def test_a_damaged_file_is_told_and_not_replaced(keys, tmp_path, content):
    (tmp_path / STATE_KEY).write_bytes(content)
    with pytest.raises(EnxameError, match=r"state\.key"):
        StateKeys(tmp_path).load()
    assert (tmp_path / STATE_KEY).read_bytes() == content


def test_a_changed_file_is_found(keys, tmp_path):
    content = (tmp_path / STATE_KEY).read_text()
    position = content.index('"Wrapped":"') + 40
    (tmp_path / STATE_KEY).write_text(
        content[:position] + ("A" if content[position] != "A" else "B") + content[position + 1 :]
    )
    with pytest.raises(EnxameError, match="damaged"):
        StateKeys(tmp_path).load()


def test_a_removed_file_is_gone(keys, tmp_path):
    keys.remove()
    assert not StateKeys(tmp_path).load()
    assert not keys.known
    with pytest.raises(Locked):
        _ = keys.ring


def test_a_write_that_fails_changes_nothing(keys, tmp_path, monkeypatch):
    def refuse(*_given, **_named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("enxame.membership.state_keys.replace_file", refuse)
    with pytest.raises(OSError, match="No space"):
        keys.protect(UNLOCK)
    monkeypatch.undo()
    assert reopened(keys, tmp_path).passphrase == ""
    assert keys.passphrase == ""
    assert keys.protect(UNLOCK)


def test_material_is_the_model_that_crosses_the_network():
    import msgspec

    given = KeyMaterial(keys={1: b"k" * 32}, current=1)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(given), type=KeyMaterial) == given
