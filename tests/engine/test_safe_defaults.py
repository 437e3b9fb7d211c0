"""What a container that asked for nothing can do to its host: nothing."""

import re

import pytest

from enxame.engine.capabilities import own_capabilities
from enxame.errors import InvalidArgument
from enxame.model.container import ContainerCreateRequest, DeviceMapping, DeviceRequest, HostConfig, Ulimit

#: moby's profiles: what a container has unless told otherwise.
DOCKERS = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
}
#: In the kernel's order: the bits of a capability mask.
ORDER = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
"""
BITS = {f"CAP_{name}": bit for bit, name in enumerate(ORDER.split())}


async def said(engine, script, **options):
    ref = await engine.run("sh", "-c", script, **options)
    await engine.containers.wait(ref)
    return await engine.text(ref)


async def test_a_default_container_has_dockers_capabilities_a_filter_and_no_more(engine):
    text = await said(engine, "cat /proc/self/status")
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    expected = sum(1 << BITS[name] for name in DOCKERS & own_capabilities())
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == expected
    assert int(status["CapAmb"], 16) == int(status["CapInh"], 16) == 0
    assert status["Seccomp"].strip() == "2"


async def test_a_default_container_cannot_write_what_is_the_hosts(engine):
    """Tries every file of /proc/sys and /sys and the well-known dangerous ones."""
    script = """
    for file in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sys/vm/drop_caches \\
        /proc/irq/default_smp_affinity /sys/kernel/uevent_helper /sys/power/state; do
        [ -e $file ] && (: >> $file) 2>/dev/null && echo "wrote $file"
    done
    find /proc/sys /sys /proc/irq /proc/bus /proc/fs -type f 2>/dev/null | while read file; do
        (: >> "$file") 2>/dev/null && echo "wrote $file"
    done
    for dir in /sys /sys/fs/cgroup/memory /sys/fs/cgroup/pids /proc /proc/sys; do
        mkdir $dir/new 2>/dev/null && echo "made $dir/new"
    done
    echo checked
    """
    assert await said(engine, script) == "checked\n"


async def test_a_default_container_reaches_no_device_of_the_host_and_mounts_nothing(engine):
    script = """
    mknod /disk b 254 0; mknod /memory c 1 1; mknod /kmsg c 1 11; mknod /null c 1 3
    for file in /disk /memory /kmsg; do (cat < $file) >/dev/null 2>&1 && echo "read $file"; done
    cat < /null && echo "null works"
    mount -t tmpfs tmpfs /tmp 2>/dev/null && echo mounted
    mount --bind /etc /tmp 2>/dev/null && echo mounted
    mount -o remount,rw /sys 2>/dev/null && echo mounted
    mount -t proc proc /tmp 2>/dev/null && echo mounted
    cat /proc/kcore 2>/dev/null | head -c 1 | grep -q . && echo "read kcore"
    ls /sys/firmware
    """
    assert await said(engine, script) == "null works\n"


async def test_a_default_container_sees_the_hosts_files_only_by_the_three_it_was_given(engine):
    text = await said(engine, "cat /proc/self/mountinfo")
    real = [line for line in text.splitlines() if re.search(r" - (ext4|xfs|btrfs|overlay|fuse\S*) ", line)]
    targets = {line.split()[4] for line in real}
    assert targets == {"/", "/etc/hostname", "/etc/hosts"} | ({"/etc/resolv.conf"} & targets)


async def test_namespaces_of_users_are_for_administrators(engine):
    script = "busybox unshare -U true 2>&1 && echo made"
    assert "not permitted" in await said(engine, script)
    assert await said(engine, script, host=HostConfig(cap_add=["SYS_ADMIN"])) == "made\n"


async def test_a_container_on_the_hosts_network_sees_no_mounts_of_the_hosts_below_sys(engine):
    text = await said(engine, "grep -c ' /sys/fs/cgroup ' /proc/self/mounts", host=HostConfig(network_mode="host"))
    assert text == "1\n"


async def test_shared_memory_that_others_may_join_holds_no_programs_and_devices(engine):
    text = await said(engine, "grep ' /dev/shm ' /proc/self/mounts", host=HostConfig(ipc_mode="shareable"))
    assert {"nosuid", "nodev", "noexec"} <= set(text.split()[3].split(","))


async def test_with_a_read_only_root_the_daemons_own_files_are_read_only(engine):
    script = "for file in hosts hostname; do (echo x >> /etc/$file) 2>/dev/null || echo refused; done"
    assert await said(engine, script, host=HostConfig(readonly_rootfs=True)) == "refused\nrefused\n"


async def test_opened_system_paths_are_an_explicit_wish(engine):
    masked = await said(engine, "cat /proc/keys | wc -l; ls -d /proc/acpi/* 2>/dev/null | wc -l")
    opened = await said(engine, "cat /proc/keys | wc -l", host=HostConfig(security_opt=["systempaths=unconfined"]))
    assert masked.split()[0] == "0"
    assert int(opened) > 0


async def test_a_device_rule_opens_what_it_names(engine):
    script = "mknod /kmsg c 1 11; (: > /kmsg) 2>/dev/null && echo opened"
    assert await said(engine, script, host=HostConfig(device_cgroup_rules=["c 1:11 w"])) == "opened\n"
    assert await said(engine, script) == ""


async def test_uts_of_another_container_is_shared(engine):
    donor = await engine.run("sleep", "60", hostname="donor")
    assert await said(engine, "hostname", host=HostConfig(uts_mode=f"container:{donor}")) == "donor\n"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (
            HostConfig(sysctls={"net.ipv4.ip_forward": "1"}, network_mode="host"),
            "not allowed in host network namespace",
        ),
        (HostConfig(sysctls={"kernel.shmmax": "1"}, ipc_mode="host"), "not allowed in host ipc namespace"),
        (HostConfig(sysctls={"vm.swappiness": "1"}), "sysctl 'vm.swappiness' is not whitelisted"),
        (HostConfig(device_cgroup_rules=["everything"]), "invalid device cgroup rule format: 'everything'"),
        (
            HostConfig(
                devices=[DeviceMapping(path_on_host="/dev/null", path_in_container="/dev/x", cgroup_permissions="rwx")]
            ),
            "invalid device mode: rwx",
        ),
        (
            HostConfig(device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])]),
            r'could not select device driver "" with capabilities: \[\[gpu\]\]',
        ),
        (
            HostConfig(ulimits=[Ulimit(name="nofile", soft=20, hard=10)]),
            "ulimit soft limit must be less than or equal to hard limit",
        ),
        (HostConfig(oom_score_adj=2000), "range for oom score adj"),
        (HostConfig(cgroup_parent="/../../up"), "invalid cgroup parent"),
        (HostConfig(userns_mode="private"), "invalid USER mode: private"),
        (HostConfig(blkio_weight=5), "Range of blkio weight is from 10 to 1000"),
    ],
)
async def test_wishes_that_cannot_be_granted_are_refused(engine, host, message):
    with pytest.raises(InvalidArgument, match=message):
        await engine.containers.create("", ContainerCreateRequest(image="base", cmd=["true"], host_config=host))
