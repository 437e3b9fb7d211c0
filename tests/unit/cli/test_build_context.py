"""What the command sends of a directory."""

import io
import tarfile

import pytest

from enxame.cli.errors import CliError
from enxame.cli.image.build import _context
from enxame.cli.image.context import Ignored, directory_context


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        ("*.log", "a.log", True),
        ("*.log", "sub/a.log", False),
        ("**/*.log", "sub/deep/a.log", True),
        ("**/*.log", "a.log", True),
        ("dir", "dir/x", True),
        ("dir/", "dir/x", True),
        ("/dir", "dir/x", True),
        ("*\n!keep", "keep", False),
        ("dir\n!dir/keep", "dir/keep", False),
        ("!keep\nkeep", "keep", True),
        ("# a\n\na?", "ab", True),
        ("[ab]", "b", True),
        ("[ab]", "c", False),
        ("a.c", "abc", False),
    ],
)
def test_dockerignore(rules, path, ignored):
    assert (path in Ignored(rules)) is ignored


def sent(directory, dockerfile="Dockerfile"):
    content = b"".join(directory_context(str(directory), dockerfile))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {member.name: member for member in archive}


def test_the_context_is_what_is_not_ignored_owned_by_root(tmp_path):
    (tmp_path / ".dockerignore").write_text("*\n!sub\nsub/no\n")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "other").write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/yes").write_text("x" * 1000)
    (tmp_path / "sub/no").write_text("x")
    (tmp_path / "sub/link").symlink_to("yes")
    found = sent(tmp_path)
    assert sorted(found) == [".dockerignore", "Dockerfile", "sub", "sub/link", "sub/yes"]
    assert found["sub/yes"].size == 1000
    assert found["sub/link"].linkname == "yes"
    assert {(one.uid, one.gid) for one in found.values()} == {(0, 0)}


def test_a_dockerfile_elsewhere_is_sent_along(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "Other").write_text("FROM scratch\n")
    name, body = _context(str(tmp_path / "files"), str(tmp_path / "Other"))
    with tarfile.open(fileobj=io.BytesIO(b"".join(body))) as archive:
        assert archive.extractfile(name).read() == b"FROM scratch\n"
    with pytest.raises(CliError, match="unable to evaluate symlinks in Dockerfile path"):
        _context(str(tmp_path / "files"), "")
    with pytest.raises(CliError, match="is remote"):
        _context("https://example.org/x.git", "")
