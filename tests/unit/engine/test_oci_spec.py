"""The translation to the runtime's language."""

import resource

import pytest

from enxame.engine import capabilities
from enxame.engine.oci_spec import SpecInput, build_spec
from enxame.engine.users import ResolvedUser
from enxame.errors import InvalidArgument
from enxame.model.container import ContainerConfig, HostConfig, Ulimit


def spec(config=None, host=None, **changes):
    return build_spec(
        SpecInput(
            **{
                "hostname": "web",
                "rootfs": "/rootfs",
                "config": config or ContainerConfig(entrypoint=["/run"], cmd=["a"]),
                "host": host or HostConfig(),
                "user": ResolvedUser(),
                "cgroups_path": "/enxame/x",
                "cgroup_version": 1,
                "namespaces": {"mount": "", "network": "/run/netns/x", "uts": ""},
                "mounts": [],
                "capabilities": ["CAP_CHOWN"],
                "seccomp": None,
                **changes,
            }
        )
    )


def test_command_environment_and_host_name():
    made = spec(ContainerConfig(entrypoint=["/run"], cmd=["a"], env=["PATH=/own", "X=1"], tty=True))
    assert made["process"]["args"] == ["/run", "a"]
    assert made["process"]["env"] == ["PATH=/own", "HOSTNAME=web", "TERM=xterm", "X=1", "HOME=/"]
    assert made["hostname"] == "web"
    assert made["process"]["cwd"] == "/"


def test_a_user_that_is_not_root_has_no_effective_capabilities():
    made = spec(user=ResolvedUser(uid=5))["process"]["capabilities"]
    assert (made["bounding"], made["effective"], made["permitted"]) == (["CAP_CHOWN"], [], [])


def test_swap_is_as_much_again_unless_it_is_told_or_not_supported():
    assert spec(host=HostConfig(memory=100))["linux"]["resources"]["memory"] == {"limit": 100, "swap": 200}
    told = HostConfig(memory=100, memory_swap=-1)
    assert spec(host=told)["linux"]["resources"]["memory"] == {"limit": 100, "swap": -1}
    assert spec(host=HostConfig(memory=100), swap_limit=False)["linux"]["resources"]["memory"] == {"limit": 100}


@pytest.mark.parametrize(("nano", "quota"), [(1_000_000_000, 100_000), (500_000_000, 50_000), (1, 1_000)])
def test_cores_become_a_quota(nano, quota):
    assert spec(host=HostConfig(nano_cpus=nano))["linux"]["resources"]["cpu"] == {"period": 100_000, "quota": quota}


def test_limits_are_clamped_to_what_the_machine_allows():
    host = HostConfig(ulimits=[Ulimit(name="nofile", soft=10, hard=-1), Ulimit(name="nproc", soft=500, hard=500)])
    made = spec(host=host, hard_limit=lambda kind: 100)["process"]["rlimits"]
    assert made == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 100},
        {"type": "RLIMIT_NPROC", "soft": 100, "hard": 100},
    ]
    free = spec(host=host, hard_limit=lambda kind: resource.RLIM_INFINITY)["process"]["rlimits"]
    assert free[0] == {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 2**64 - 1}
    with pytest.raises(InvalidArgument, match="invalid ulimit type: wishes"):
        spec(host=HostConfig(ulimits=[Ulimit(name="wishes")]))


def test_privileged_has_no_masks_and_every_device():
    linux = spec(host=HostConfig(privileged=True))["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


def test_only_an_own_network_namespace_gets_network_sysctls():
    assert "net.ipv4.ip_unprivileged_port_start" in spec()["linux"]["sysctl"]
    shared = spec(host=HostConfig(network_mode="host"), namespaces={"mount": ""})
    assert "sysctl" not in shared["linux"]


def test_capabilities_are_added_and_dropped():
    everything = frozenset(capabilities.ALL)

    def effective(add, drop, privileged=False, available=everything):
        return capabilities.effective(add, drop, privileged=privileged, available=available)

    assert set(effective([], [])) == set(capabilities.DEFAULT)
    assert effective(["chown"], ["ALL"]) == ["CAP_CHOWN"]
    assert "CAP_MKNOD" not in effective([], ["mknod"])
    assert set(effective(["ALL"], ["SYS_ADMIN"])) == everything - {"CAP_SYS_ADMIN"}
    assert effective([], [], privileged=True, available=frozenset({"CAP_KILL"})) == ["CAP_KILL"]
