"""Which addresses the daemon takes, and what it says of those that do not do."""

from pathlib import Path
from typing import Any

import pytest

from enxame import daemon_config
from enxame.daemon_config import ConfigError
from enxame.listeners import insecure_addresses, listen, select_handed_over
from enxame.sd_listen import HandedOver

GIVEN = [HandedOver("enxame.socket", 3), HandedOver("looks", 4)]


class Recorder:
    """Takes down what would be listened on."""

    def __init__(self) -> None:
        self.unix: list[tuple[str, bool]] = []
        self.tcp: list[tuple[str, int, bool]] = []

    async def listen_unix(self, path: str, *, group: str | None, looks_only: bool) -> None:
        if group == "no-such-group":
            raise KeyError(group)
        self.unix.append((path, looks_only))

    async def listen_tcp(self, host: str, port: int, *, tls: Any, looks_only: bool) -> int:
        self.tcp.append((host, port, looks_only))
        return port


async def _listen(*arguments: str) -> Recorder:
    api = Recorder()
    await listen(api, daemon_config.load(["--config-file=/dev/null", *arguments]), [])  # type: ignore[arg-type]
    return api


@pytest.fixture(autouse=True)
def empty_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_config, "_read_file", lambda *_: {})


async def test_without_a_host_the_default_socket_is_served() -> None:
    assert (await _listen("--exec-root", "/run/x")).unix == [("/run/x/enxame.sock", False)]


async def test_each_host_is_served_in_its_way() -> None:
    api = await _listen("-H", "unix:///a", "-H", "tcp://[::1]:2375", "-H", "tcp://:1", "--read-only-host", "unix:///b")
    assert api.unix == [("/a", False), ("/b", True)]
    assert api.tcp == [("::1", 2375, False), ("0.0.0.0", 1, False)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-H", "tcp://x:http"], "invalid bind address tcp://x:http"),
        (["-H", "tcp://x:70000"], "invalid bind address"),
        (["-H", "npipe://x"], "invalid bind address npipe://x"),
        (["-H", "unix://"], "invalid bind address unix://"),
        (["-H", "fd://"], "no socket was handed over"),
        (["-H", "unix:///a", "-G", "no-such-group"], "could not find group no-such-group"),
        (["-H", "tcp://x:1", "--tls"], "TLS needs --tlscert and --tlskey"),
        (["-H", "tcp://x:1", "--tlsverify", "--tlscert", "a", "--tlskey", "b"], "--tlsverify needs --tlscacert"),
    ],
)
async def test_what_does_not_do_is_told(arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        await _listen(*arguments)


def test_handed_over_sockets_are_chosen_by_name_by_number_or_all() -> None:
    assert select_handed_over(GIVEN, "") == GIVEN
    assert select_handed_over(GIVEN, "looks") == [GIVEN[1]]
    assert select_handed_over(GIVEN, "3") == [GIVEN[0]]
    with pytest.raises(ConfigError, match=r"fd://other .*enxame.socket, looks"):
        select_handed_over(GIVEN, "other")


def test_addresses_without_encryption_are_known() -> None:
    config = daemon_config.load(["-H", "unix:///a", "-H", "tcp://0.0.0.0:2375"])
    assert insecure_addresses(config) == ["0.0.0.0:2375"]
