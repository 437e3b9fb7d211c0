"""A daemon that ends with its machine does not promise to be back."""

import pytest

from enxame.membership import host_shutdown


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("echo stopping; exit 1", True),
        ("echo running", False),
        ("echo degraded; exit 1", False),
        ("exec sleep 30", False),
    ],
)
async def test_systemd_says_whether_the_machine_goes_down(tmp_path, monkeypatch, answer, expected):
    monkeypatch.setattr(host_shutdown, "SYSTEMD", tmp_path)
    monkeypatch.setattr(host_shutdown, "_ASK", ("sh", "-c", f"exec 2>&-; {answer}"))
    assert await host_shutdown.is_under_way() is expected


async def test_without_systemd_nobody_can_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(host_shutdown, "_ASK", ("sh", "-c", "echo stopping"))
    monkeypatch.setattr(host_shutdown, "SYSTEMD", tmp_path / "none")
    assert not await host_shutdown.is_under_way()


async def test_without_systemctl_nobody_can_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(host_shutdown, "SYSTEMD", tmp_path)
    monkeypatch.setattr(host_shutdown, "_ASK", (str(tmp_path / "systemctl"),))
    assert not await host_shutdown.is_under_way()
