from pathlib import Path

import pytest

from enxame.engine.users import ResolvedUser, resolve_user
from enxame.errors import EnxameError, InvalidArgument

PASSWD = "root:x:0:0:root:/root:/bin/sh\nodd:x:²:1:::\nweb:x:33:44:web:/www:/bin/sh\n"
GROUP = "web:x:44:\nlogs:x:55:web\nodd:x:²:web\nlarge:x:" + "9" * 5000 + ":web\n"


@pytest.fixture
def rootfs(tmp_path: Path) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("", ResolvedUser(0, 0, [0], "/root")),
        ("web", ResolvedUser(33, 44, [44, 55], "/www")),
        ("33", ResolvedUser(33, 44, [44, 55], "/www")),
        ("web:logs", ResolvedUser(33, 55, [55], "/www")),
        ("1000:1001", ResolvedUser(1000, 1001, [1001], "/")),
        ("2147483647", ResolvedUser(2147483647, 0, [0], "/")),
    ],
)
def test_users_are_looked_up_in_the_images_files(rootfs: str, user: str, found: ResolvedUser) -> None:
    assert resolve_user(user, [], rootfs) == found


@pytest.mark.parametrize(
    ("user", "error", "message"),
    [
        ("nobody", EnxameError, "unable to find user nobody: no matching entries in passwd file"),
        ("²", EnxameError, "unable to find user ²: no matching entries in passwd file"),
        ("odd", EnxameError, "unable to find user odd: no matching entries in passwd file"),
        ("0:²", EnxameError, "unable to find group ²: no matching entries in group file"),
        ("2147483648", InvalidArgument, "uids and gids must be in range 0-2147483647"),
        ("0:2147483648", InvalidArgument, "uids and gids must be in range 0-2147483647"),
        ("9" * 5000, InvalidArgument, "uids and gids must be in range 0-2147483647"),
    ],
)
def test_what_is_no_user_or_group_is_refused(rootfs: str, user: str, error: type[EnxameError], message: str) -> None:
    with pytest.raises(error) as refused:
        resolve_user(user, [], rootfs)
    assert refused.value.message == message
