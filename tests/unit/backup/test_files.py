import pytest

from enxame.backup import files
from enxame.backup.files import Secret
from enxame.backup.form import Damaged, Head, Item
from enxame.errors import EnxameError, InvalidArgument, NotFound

PASSPHRASE = Secret("passphrase", b"correct horse")
HEAD = Head("c1", "n1", 7, {"service": 1}, "2026-01-02T00:00:00Z")
ITEMS = [Item("service", "a", 3, b"x")]


def test_a_backup_is_kept_for_its_owner_alone_and_read_again(tmp_path):
    path = tmp_path / "swarm.backup"
    made = files.write(path, files.encode(HEAD, ITEMS, PASSPHRASE), PASSPHRASE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert (made.revision, made.counts) == (7, {"service": 1})
    assert files.check(path).cluster_id == "c1"
    assert files.restore(path, PASSPHRASE).items == ITEMS


def test_wrong_secrets_are_named(tmp_path):
    path = tmp_path / "b"
    files.write(path, files.encode(HEAD, ITEMS, PASSPHRASE))
    with pytest.raises(InvalidArgument, match="wrong passphrase"):
        files.check(path, Secret("passphrase", b"other"))
    with pytest.raises(InvalidArgument, match="encrypted with a passphrase"):
        files.check(path, Secret("keyfile", b"other"))
    with pytest.raises(InvalidArgument, match="its passphrase is needed"):
        files.restore(path)
    with pytest.raises(InvalidArgument, match="empty"):
        Secret("passphrase", b"")
    with pytest.raises(NotFound, match="no such backup"):
        files.check(tmp_path / "none")


def test_a_key_file_is_neither_too_short_nor_too_long(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"x")
    with pytest.raises(InvalidArgument, match="too short"):
        Secret.from_key_file(path)
    path.write_bytes(b"x" * 5000)
    with pytest.raises(InvalidArgument, match="too long"):
        Secret.from_key_file(path)
    path.write_bytes(b"x" * 32)
    assert Secret.from_key_file(path) == Secret("keyfile", b"x" * 32)
    with pytest.raises(InvalidArgument, match="cannot read the key file"):
        Secret.from_key_file(tmp_path / "none")


def test_what_cannot_be_kept_whole_leaves_the_former_one(tmp_path):
    with pytest.raises(EnxameError, match="cannot write the backup"):
        files.write(tmp_path / "gone" / "b", files.encode(HEAD, ITEMS))
    path = tmp_path / "b"
    files.write(path, files.encode(HEAD, ITEMS))
    before = path.read_bytes()
    pieces = list(files.encode(HEAD, ITEMS))
    with pytest.raises(Damaged, match="cut off"):
        files.write(path, pieces[:-1])
    (tmp_path / "b2").mkdir()
    with pytest.raises(EnxameError, match="cannot write the backup"):
        files.write(tmp_path / "b2", files.encode(HEAD, ITEMS))
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "b2"], "no drafts are left"


def test_a_secret_travels_in_a_header():
    assert Secret.from_header(PASSPHRASE.header()) == PASSPHRASE
    assert Secret.from_header("") is None
    for broken in ("!", "e30=", Secret("keyfile", b"x" * 16).header()[:-6]):
        with pytest.raises(InvalidArgument):
            Secret.from_header(broken)
