"""What a container's configuration makes of the real container."""

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from enxame.errors import EnxameError, InvalidArgument
from enxame.model.container import (
    ContainerCreateRequest,
    DeviceMapping,
    HostConfig,
    Mount,
    TmpfsOptions,
    Ulimit,
)
from enxame.model.filters import Filters
from enxame.model.stream import LogOptions


async def said(engine, *cmd, host=None, **config):
    ref = await engine.run(*cmd, host=host, **config)
    await engine.containers.wait(ref)
    return (await engine.text(ref)).strip()


def status(text, name):
    return next(line.split("\t")[1].strip() for line in text.splitlines() if line.startswith(f"{name}:"))


async def test_environment_working_directory_and_host_name(engine):
    text = await said(
        engine, "sh", "-c", "pwd; hostname; env", env=["A=1", "B"], working_dir="/made/here", hostname="web"
    )
    lines = text.splitlines()
    assert lines[:2] == ["/made/here", "web"]
    assert {"A=1", "HOSTNAME=web", "HOME=/root"} <= set(lines)
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in lines)
    assert not any(line.startswith("B=") for line in lines)


async def test_default_confinement_is_dockers(engine):
    text = await said(engine, "cat", "/proc/self/status")
    assert status(text, "CapEff") == "00000000a80425fb"
    assert status(text, "Seccomp") == "2"
    assert status(text, "NoNewPrivs") == "0"


async def test_the_second_container_is_confined_as_the_first(engine):
    """The second one gets a compiled filter."""
    for _ in range(2):
        text = await said(
            engine, "sh", "-c", "grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp 2>&1; unshare 2>&1"
        )
        assert status(text, "Seccomp") == "2"
        assert "denied" in text or "not permitted" in text


async def test_dropped_capabilities_users_and_no_new_privileges(engine):
    host = HostConfig(cap_drop=["ALL"], cap_add=["CAP_CHOWN"], security_opt=["no-new-privileges"])
    text = await said(engine, "cat", "/proc/self/status", host=host)
    assert status(text, "CapEff") == "0000000000000001"
    assert status(text, "NoNewPrivs") == "1"
    text = await said(engine, "sh", "-c", "cat /proc/self/status; id", user="1000:29")
    assert status(text, "CapEff") == "0000000000000000"
    assert "uid=1000(maria) gid=29(audio)" in text


async def test_an_unknown_user_is_named(engine):
    made = await engine.containers.create("job", ContainerCreateRequest(image="base", cmd=["true"], user="nobody9"))
    with pytest.raises(EnxameError, match="unable to find user nobody9: no matching entries in passwd file"):
        await engine.containers.start(made.id)


async def test_privileged_has_everything_this_machine_can_give(engine):
    text = await said(
        engine,
        "sh",
        "-c",
        "cat /proc/self/status; mount -t tmpfs x /tmp && echo mounted",
        host=HostConfig(privileged=True),
    )
    assert status(text, "Seccomp") == "0"
    assert "mounted" in text


async def test_limits_of_memory_cpu_and_processes(engine):
    from enxame.engine.cgroups import detect_layout

    host = HostConfig(memory=32 << 20, nano_cpus=500_000_000, pids_limit=17)
    ref = await engine.run("sleep", "60", host=host)
    layout = detect_layout()
    if layout.version == 1:
        files = {
            ("memory", "memory.limit_in_bytes"): str(32 << 20),
            ("cpu", "cpu.cfs_quota_us"): "50000",
            ("pids", "pids.max"): "17",
        }
    else:
        files = {("", "memory.max"): str(32 << 20), ("", "cpu.max"): "50000 100000", ("", "pids.max"): "17"}
    for (controller, name), wanted in files.items():
        assert (layout.directory(controller, f"/enxame/{ref}") / name).read_text().strip() == wanted


async def test_running_out_of_memory_is_told(engine):
    host = HostConfig(memory=16 << 20)
    ref = await engine.run(
        "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=60; x=$(yes | head -c 60000000)", host=host
    )
    await engine.containers.wait(ref)
    shown = engine.containers.inspect(ref).state
    assert shown.oom_killed
    assert shown.exit_code != 0


async def test_binds_volumes_and_tmpfs(engine, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    (given / "file").write_text("from the host")
    host = HostConfig(
        binds=[f"{given}:/in:ro", f"{tmp_path}/made:/made", "store:/store", "seeded:/data"],
        mounts=[
            Mount(type="volume", source="store", target="/again", read_only=True),
            Mount(type="tmpfs", target="/scratch", tmpfs_options=TmpfsOptions(size_bytes=1 << 20, mode=0o700)),
        ],
        tmpfs={"/run": "size=64k,exec"},
    )
    script = (
        "cat /in/file; touch /in/no; echo; echo kept > /store/x; cat /again/x; touch /again/no; cat /data/seed;"
        " touch /made/yes; stat -c %a /scratch; grep ' /run ' /proc/mounts; stat -c %s /in/file"
    )
    text = await said(engine, "sh", "-c", script, host=host)
    assert "from the host" in text
    assert "kept" in text
    assert "from the image" in text
    assert "\n700\n" in text
    assert "size=64k" in text
    assert text.count("Read-only file system") == 2 or not (given / "no").exists()
    assert (tmp_path / "made/yes").exists()
    assert not (given / "no").exists()
    assert (engine.volumes.root / "store/_data/x").read_text() == "kept\n"


async def test_a_missing_bind_source_is_refused_in_dockers_words(engine):
    request = ContainerCreateRequest(
        image="base", host_config=HostConfig(mounts=[Mount(type="bind", source="/no/such", target="/x")])
    )
    with pytest.raises(InvalidArgument) as caught:
        await engine.containers.create("job", request)
    assert caught.value.message == 'invalid mount config for type "bind": bind source path does not exist: /no/such'


async def test_anonymous_volumes_go_with_their_container_when_asked(engine):
    from enxame.model.container import Empty

    ref = await engine.run("true", volumes={"/cache": Empty()})
    await engine.containers.wait(ref)
    name = engine.containers.inspect(ref).mounts[0].name
    assert (engine.volumes.root / name).exists()
    await engine.containers.remove(ref, volumes=True)
    assert not (engine.volumes.root / name).exists()


async def test_a_read_only_root_and_masked_paths(engine):
    script = "touch /x; echo 1 > /proc/sys/vm/drop_caches; ls /sys/firmware"
    text = await said(engine, "sh", "-c", script, host=HostConfig(readonly_rootfs=True))
    assert text.lower().count("read-only file system") == 2
    assert text.lower().endswith("read-only file system")


async def test_ulimits_are_at_most_what_this_machine_allows(engine):
    host = HostConfig(ulimits=[Ulimit(name="nofile", soft=100, hard=10**9)])
    assert await said(engine, "sh", "-c", "ulimit -n", host=host) == "100"


async def test_devices_and_sysctls(engine):
    host = HostConfig(
        devices=[DeviceMapping(path_on_host="/dev/full", path_in_container="/dev/mine", cgroup_permissions="rw")],
        sysctls={"net.ipv4.ip_default_ttl": "42"},
    )
    text = await said(engine, "sh", "-c", "echo x > /dev/mine; cat /proc/sys/net/ipv4/ip_default_ttl", host=host)
    assert "No space left" in text
    assert "42" in text


async def test_init_reaps_and_forwards(engine):
    if not any(Path(p).exists() for p in ("/usr/bin/docker-init", "/usr/bin/tini-static", "/usr/bin/catatonit")):  # noqa: ASYNC240
        pytest.skip("no init program")
    ref = await engine.run("sh", "-c", "echo up; exec sleep 60", host=HostConfig(init=True))
    async for _ in engine.containers.logs(ref, LogOptions(follow=True)):
        break
    await engine.containers.stop(ref, timeout=5)
    assert engine.containers.inspect(ref).state.exit_code == 143


@pytest.mark.parametrize("init", [True, False])
async def test_with_init_orphans_that_end_are_reaped(engine, init):
    orphan = "(sh -c 'sleep 0.2' & ) ; echo left; exec sleep 60"
    ref = await engine.run("sh", "-c", orphan, host=HostConfig(init=init))
    main = engine.containers.inspect(ref).state.pid

    def states():
        """State and parent of all processes of the container."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(process / "ns/pid") == os.readlink(f"/proc/{main}/ns/pid"):
                    fields = (process / "stat").read_text().rpartition(")")[2].split()
                    found[int(process.name)] = fields[0], int(fields[1])
        return found

    def orphans():
        return {pid: state for pid, (state, parent) in states().items() if parent == main and pid != main}

    async with asyncio.timeout(60):
        if init:
            while len(states()) != 2:  # init and its child: nothing is left of the others
                await asyncio.sleep(0.02)
        else:
            while set(orphans().values()) != {"Z"}:  # the program that runs as init does not look
                await asyncio.sleep(0.02)


async def test_namespaces_of_the_host_and_of_another_container(engine):
    script = "echo shared > /dev/shm/x; sleep 60"
    first = await engine.run("sh", "-c", script, name="first", host=HostConfig(ipc_mode="shareable"))
    pid = engine.containers.inspect(first).state.pid
    host = HostConfig(
        pid_mode="container:first", ipc_mode="container:first", network_mode="container:first", uts_mode="host"
    )
    second = await engine.run("sleep", "60", host=host)
    other = engine.containers.inspect(second).state.pid
    for kind in ("pid", "ipc", "net"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/{other}/ns/{kind}")
    assert Path(f"/proc/{other}/root/dev/shm/x").read_text() == "shared\n"  # noqa: ASYNC240
    assert os.readlink(f"/proc/{other}/ns/uts") == os.readlink("/proc/self/ns/uts")


async def test_shm_has_the_size_that_was_asked_for(engine):
    text = await said(engine, "sh", "-c", "grep /dev/shm /proc/mounts", host=HostConfig(shm_size=2 << 20))
    assert "size=2048k" in text


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (HostConfig(memory=1 << 20), "Minimum memory limit allowed is 6MB"),
        (HostConfig(nano_cpus=10**15), "range of CPUs is from 0.01 to"),
        (HostConfig(binds=["a:b:c:d"]), "invalid volume specification: 'a:b:c:d'"),
        (HostConfig(binds=["/x:/y:zz"]), "invalid mode: zz"),
        (HostConfig(cap_add=["FLY"]), 'invalid CapAdd: unknown capability: "CAP_FLY"'),
        (HostConfig(security_opt=["nonsense"]), "invalid --security-opt"),
        (HostConfig(ulimits=None, shm_size=-1), "SHM size can not be less than 0"),
    ],
)
async def test_nonsense_is_refused_at_creation(engine, host, message):
    with pytest.raises(InvalidArgument) as caught:
        await engine.containers.create("job", ContainerCreateRequest(image="base", host_config=host))
    assert message in caught.value.message
    assert engine.containers.list(all=True, filters=Filters()) == []


async def test_a_custom_seccomp_profile_is_applied(engine):
    rule = '{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}'
    profile = f'{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}'
    script = "busybox mkdir /tmp/x; echo code $?"
    assert "code 1" in await said(engine, "sh", "-c", script, host=HostConfig(security_opt=[f"seccomp={profile}"]))
    assert "code 0" in await said(engine, "sh", "-c", script, host=HostConfig(security_opt=["seccomp=unconfined"]))


async def test_what_the_host_mounts_later_shows_in_a_bind(engine, tmp_path):
    place = tmp_path / "late"
    place.mkdir()
    await engine.run("true")
    subprocess.run(["mount", "-t", "tmpfs", "late", str(place)], check=True)  # noqa: ASYNC221 - quick
    try:
        (place / "file").write_text("late")
        assert await said(engine, "cat", "/in/file", host=HostConfig(binds=[f"{place}:/in"])) == "late"
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: ASYNC221 - quick
