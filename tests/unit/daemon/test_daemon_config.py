from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enxame.daemon_config import ConfigError, DaemonConfig, load


def loaded(tmp_path: Path, file: dict[str, Any], *flags: str) -> DaemonConfig:
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps(file))
    return load([f"--config-file={path}", *flags])


def test_runtimes_come_from_the_file_as_dockerd_has_them(tmp_path: Path) -> None:
    file = {"default-runtime": "mine", "runtimes": {"mine": {"path": "/opt/mine", "runtimeArgs": ["--debug"]}}}
    config = loaded(tmp_path, file)
    assert config.default_runtime == "mine"
    assert config.runtimes == {"mine": ("/opt/mine", ("--debug",))}


def test_runtimes_come_from_flags(tmp_path: Path) -> None:
    config = loaded(tmp_path, {}, "--add-runtime", "mine=/opt/mine", "--add-runtime", "other=crun")
    assert config.runtimes == {"mine": ("/opt/mine", ()), "other": ("crun", ())}


@pytest.mark.parametrize(
    ("file", "flags", "told"),
    [
        ({"default-runtime": "nope"}, (), "specified default runtime 'nope' does not exist"),
        ({}, ("--default-runtime=nope",), "specified default runtime 'nope' does not exist"),
        ({"runtimes": {"runc": {"path": "/x"}}}, (), "runtime name 'runc' is reserved"),
        ({}, ("--add-runtime=runc=/x",), "runtime name 'runc' is reserved"),
        ({"runtimes": ["a"]}, (), "runtimes: expected an object"),
        ({"runtimes": {"a": {"runtimeType": "io.containerd.kata.v2"}}}, (), "shims are not supported"),
        ({"runtimes": {"a": "/x"}}, (), "invalid runtime a"),
        ({"runtimes": {"a": {"path": 1}}}, (), "invalid runtime name 'a'"),
        ({"runtimes": {"a": {"path": "/x", "runtimeArgs": [1]}}}, (), "runtimeArgs is a list of words"),
        ({}, ("--add-runtime=a",), "invalid runtime name 'a'"),
        ({"runtimes": {}}, ("--add-runtime=a=/x",), "both as a flag and in the configuration file: add-runtime"),
        ({"labels": {}}, (), "labels: expected a list"),
    ],
)
def test_options_that_do_not_do_are_told(
    tmp_path: Path, file: dict[str, Any], flags: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        loaded(tmp_path, file, *flags)


def test_the_default_bridge_is_described_as_dockerd_has_it(tmp_path: Path) -> None:
    config = loaded(tmp_path, {"bip": "10.9.0.1/16", "ipv6": True, "fixed-cidr-v6": "2001:db8:1::/64"})
    assert (config.bip, config.ipv6, config.fixed_cidr_v6) == ("10.9.0.1/16", True, "2001:db8:1::/64")
    assert loaded(tmp_path, {}, "--ipv6").ipv6
    assert not loaded(tmp_path, {}).ipv6


def test_shortcuts_of_the_mesh_can_be_switched_off(tmp_path: Path) -> None:
    assert loaded(tmp_path, {}).mesh_shortcuts
    assert not loaded(tmp_path, {}, "--no-mesh-shortcuts").mesh_shortcuts
    assert not loaded(tmp_path, {"no-mesh-shortcuts": True}).mesh_shortcuts
    assert loaded(tmp_path, {"no-mesh-shortcuts": False}).mesh_shortcuts
