from __future__ import annotations

from pathlib import Path

import pytest

from enxame.engine.networks import name_files


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("_HOSTS", "_RESOLV", "_RESOLVED"):
        monkeypatch.setattr(name_files, name, tmp_path / name)
    return tmp_path


def resolv(**given: object) -> list[str]:
    options: dict[str, object] = {"servers": [], "search": [], "options": [], **given}
    return name_files.resolv_text(**options).splitlines()  # type: ignore[arg-type]


def test_hosts_file_names_the_container_at_all_its_addresses() -> None:
    text = name_files.hosts_text(["172.17.0.2", "10.0.0.3"], "web", "example.org", ["db:10.1.1.1"])
    assert text.startswith("127.0.0.1\tlocalhost\n")
    assert text.endswith("10.1.1.1\tdb\n172.17.0.2\tweb.example.org web\n10.0.0.3\tweb.example.org web\n")


def test_host_gateway_is_the_networks_gateway() -> None:
    text = name_files.hosts_text([], "web", "", ["host.docker.internal:host-gateway", "six:fd00::1"], "172.17.0.1")
    assert "172.17.0.1\thost.docker.internal\n" in text
    assert "fd00::1\tsix\n" in text


def test_hosts_own_resolvers_are_taken_without_loopback_ones(host: Path) -> None:
    (host / "_RESOLV").write_text(
        "# made by hand\nnameserver 127.0.0.1\nnameserver 192.0.2.53\nsearch a b\noptions ndots:2\n"
    )
    assert resolv() == ["nameserver 192.0.2.53", "search a b", "options ndots:2"]
    assert resolv(keep_loopback=True)[0] == "nameserver 127.0.0.1"


def test_servers_behind_a_local_stub_are_used(host: Path) -> None:
    (host / "_RESOLV").write_text("nameserver 127.0.0.53\nsearch lan\n")
    (host / "_RESOLVED").write_text("nameserver 192.0.2.54\n")
    assert resolv() == ["nameserver 192.0.2.54", "search lan"]


def test_what_the_user_gives_replaces_the_hosts(host: Path) -> None:
    (host / "_RESOLV").write_text("nameserver 192.0.2.53\nsearch lan\n")
    assert resolv(servers=["9.9.9.9"], search=["x"], options=["timeout:1"]) == [
        "nameserver 9.9.9.9",
        "search x",
        "options timeout:1",
    ]
    assert resolv(search=["."]) == ["nameserver 192.0.2.53"]


@pytest.mark.usefixtures("host")
def test_missing_files_are_no_error() -> None:
    assert resolv() == []
    assert name_files.host_hosts_text(["db:10.1.1.1"]) == "10.1.1.1\tdb\n"
