"""Secrets and configs as files of a task."""

import base64
import os
from pathlib import Path

import pytest

from enxame.agent.payloads import PayloadFiles
from enxame.engine.mount_syscalls import is_mounted
from enxame.model.secret import Config, ConfigSpec, Secret, SecretSpec
from enxame.model.service import ConfigReference, ContainerSpec, FileTarget, SecretReference, TaskSpec
from enxame.model.task import Task

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def encoded(text):
    return base64.b64encode(text).decode()


def task(task_id="t1"):
    spec = ContainerSpec(
        image="img",
        secrets=[SecretReference(secret_id="s1", secret_name="pw", file=FileTarget(name="pw", mode=0o400))],
        configs=[ConfigReference(config_id="c1", config_name="conf", file=FileTarget(name="/etc/app.conf"))],
    )
    return Task(id=task_id, spec=TaskSpec(container_spec=spec))


@pytest.fixture
def payloads(tmp_path):
    made = PayloadFiles(tmp_path / "payloads")
    made.keep(
        [Secret(id="s1", spec=SecretSpec(name="pw", data=encoded(b"hush")))],
        [Config(id="c1", spec=ConfigSpec(name="conf", data=encoded(b"a=1")))],
    )
    yield made
    for name in ("t1", "t2"):
        made.remove(name)


def test_files_are_written_to_a_tmpfs_and_mounted_read_only(payloads, tmp_path):
    mounts = payloads.write(task())
    assert [(mount.target, mount.read_only) for mount in mounts] == [("/run/secrets/pw", True), ("/etc/app.conf", True)]
    assert [Path(mount.source).read_bytes() for mount in mounts] == [b"hush", b"a=1"]
    assert [Path(mount.source).stat().st_mode & 0o777 for mount in mounts] == [0o400, 0o444]
    assert is_mounted(str(tmp_path / "payloads"))


def test_nothing_is_left_once_the_last_task_is_gone(payloads, tmp_path):
    payloads.write(task("t1"))
    payloads.write(task("t2"))
    payloads.remove("t1")
    assert is_mounted(str(tmp_path / "payloads"))
    payloads.remove("t2")
    assert not is_mounted(str(tmp_path / "payloads"))
    assert list((tmp_path / "payloads").iterdir()) == []


def test_a_task_without_payloads_mounts_nothing(payloads, tmp_path):
    assert payloads.write(Task(id="t3", spec=TaskSpec(container_spec=ContainerSpec(image="img")))) == []
    assert not (tmp_path / "payloads").exists()
