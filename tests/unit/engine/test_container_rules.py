"""Small pure rules of containers: names, restarts, health, users, errors of the runtime."""

import pytest

from enxame.engine import health, naming, restart_policy, runtime_errors, users
from enxame.engine.cgroups import CgroupMode, parse_layout
from enxame.engine.container_stats import parse_net_dev, parse_pairs, system_cpu
from enxame.engine.image_defaults import merge, merge_env
from enxame.engine.runtime_namespace import covering_mounts, is_own_bind, is_shared
from enxame.engine.seccomp import compile_profile
from enxame.engine.signals import parse_signal
from enxame.engine.usage import select_rows
from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.model.container import ContainerConfig, ContainerRestartPolicy, HealthConfig
from enxame.model.container_view import Health, HealthResult

IDS = {"ab" * 32: "", "ac" * 32: ""}


def test_a_reference_is_an_id_a_name_or_a_unique_prefix():
    names = {"web": "ac" * 32, "ab": "ac" * 32}
    assert naming.find("ab" * 32, IDS.keys(), names) == "ab" * 32
    assert naming.find("/web", IDS.keys(), names) == "ac" * 32
    assert naming.find("ab", IDS.keys(), names) == "ac" * 32
    assert naming.find("aba", IDS.keys(), names) == "ab" * 32
    with pytest.raises(NotFound, match="No such container: zz"):
        naming.find("zz", IDS.keys(), names)
    with pytest.raises(InvalidArgument, match="Multiple IDs found"):
        naming.find("a", IDS.keys(), {})


@pytest.mark.parametrize("name", ["a", "-x", "a b", "ä1", ""])
def test_names_out_of_rule_are_refused(name):
    with pytest.raises(InvalidArgument, match=r"only \[a-zA-Z0-9\]\[a-zA-Z0-9_.-\] are allowed"):
        naming.check_name(name)


def test_random_names_are_never_taken():
    taken = set()
    for _ in range(200):
        taken.add(naming.random_name(taken))
    assert len(taken) == 200
    assert all(naming.check_name(name) for name in taken)


@pytest.mark.parametrize(
    ("policy", "code", "by_user", "count", "again"),
    [
        ("no", 1, False, 0, False),
        ("always", 0, False, 99, True),
        ("always", 1, True, 0, False),
        ("unless-stopped", 0, False, 0, True),
        ("on-failure", 0, False, 0, False),
        ("on-failure", 1, False, 2, True),
        ("on-failure", 1, False, 3, False),
    ],
)
def test_restart_policies(policy, code, by_user, count, again):
    rule = ContainerRestartPolicy(name=policy, maximum_retry_count=3 if policy == "on-failure" else 0)
    assert restart_policy.restarts(rule, exit_code=code, stopped_by_user=by_user, count=count) is again


def test_the_delay_doubles_up_to_a_minute_and_begins_anew_after_a_steady_run():
    delays, delay = [], 0.0
    for _ in range(12):
        delay = restart_policy.next_delay(delay, ran_for=0.1)
        delays.append(delay)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60.0
    assert restart_policy.next_delay(60.0, ran_for=11) == 0.1


def test_health_needs_its_retries_in_a_row_and_forgives_the_start_period():
    probe = health.probe_of(HealthConfig(test=["CMD-SHELL", "x"], retries=2, start_period=10 * 10**9), [])
    assert probe is not None
    assert probe.command == ["/bin/sh", "-c", "x"]
    bad, good = HealthResult(exit_code=1), HealthResult(exit_code=0)
    state = health.after(Health(), bad, probe, running_for=5)
    assert (state.status, state.failing_streak) == ("starting", 0)
    state = health.after(state, bad, probe, running_for=11)
    assert (state.status, state.failing_streak) == ("starting", 1)
    state = health.after(state, bad, probe, running_for=12)
    assert state.status == "unhealthy"
    state = health.after(state, good, probe, running_for=13)
    assert (state.status, state.failing_streak, len(state.log)) == ("healthy", 0, 4)
    assert health.probe_of(HealthConfig(test=["NONE"]), []) is None


def test_a_container_inherits_from_its_image():
    image = ContainerConfig(entrypoint=["/e"], cmd=["c"], env=["A=1", "B=2"], user="u", labels={"x": "1"})
    assert merge(ContainerConfig(cmd=["mine"]), image).entrypoint == ["/e"]
    assert merge(ContainerConfig(entrypoint=["/mine"]), image).cmd is None
    assert merge(ContainerConfig(entrypoint=[""], cmd=["sh"]), image).entrypoint is None
    assert merge(ContainerConfig(), image).cmd == ["c"]
    assert merge_env(["A=1", "B=2"], ["B=3", "A"]) == ["B=3"]


def test_users_and_groups_come_from_the_containers_own_files_and_never_from_outside(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "real").write_text("root:x:0:0::/root:/bin/sh\nmaria:x:7:8::/home/maria:/bin/sh\n")
    (tmp_path / "etc/passwd").symlink_to("/../../real")
    (tmp_path / "etc/group").write_text("extra:x:9:maria\nwheel:x:10:\n")
    assert users.resolve_user("maria", ["wheel", "77"], str(tmp_path)) == users.ResolvedUser(
        7, 8, [8, 9, 10, 77], "/home/maria"
    )
    assert users.resolve_user("7:extra", [], str(tmp_path)) == users.ResolvedUser(7, 9, [9], "/home/maria")
    assert users.resolve_user("12345", [], str(tmp_path)) == users.ResolvedUser(12345, 0, [0], "/")
    with pytest.raises(EnxameError, match="unable to find user pedro: no matching entries in passwd file"):
        users.resolve_user("pedro", [], str(tmp_path))


@pytest.mark.parametrize(
    ("said", "words", "code"),
    [
        (
            "executable file `x` not found in $PATH: No such file or directory",
            "executable file not found in $PATH",
            127,
        ),
        ('exec: "x": executable file not found in $PATH: unknown', "executable file not found in $PATH", 127),
        ("open executable: Permission denied", "permission denied", 126),
        ("cannot mount: Disk full", "cannot mount: Disk full", 128),
    ],
)
def test_the_runtimes_words_become_dockers(said, words, code):
    failure = runtime_errors.start_failure(said, "x", "crun")
    assert words in failure.error.message
    assert failure.exit_code == code
    assert failure.error.status == (500 if code == 128 else 400)


def test_signals_by_all_their_names():
    assert [parse_signal(text) for text in ("SIGTERM", "term", "15", "RTMIN+3")] == [15, 15, 15, 37]
    for text in ("SIGNOPE", "0", "999", "TERM+1"):
        with pytest.raises(InvalidArgument, match="Invalid signal"):
            parse_signal(text)


MOUNTS = """\
27 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
28 27 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
29 28 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
30 28 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 27 0:50 / /mnt/a\\040b rw - ext4 /dev/vdb rw
"""


def test_cgroup_layouts():
    layout = parse_layout(MOUNTS)
    assert layout.mode is CgroupMode.V1
    assert str(layout.directory("cpuacct", "/enxame/x")) == "/sys/fs/cgroup/cpu,cpuacct/enxame/x"
    unified = "40 28 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    assert parse_layout(MOUNTS + unified).mode is CgroupMode.HYBRID
    assert parse_layout("30 27 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").mode is CgroupMode.V2


def test_which_mounts_the_runtime_does_not_see_by_itself():
    assert is_shared(MOUNTS, "/var/lib")
    assert not is_shared(MOUNTS, "/sys/fs/cgroup/cpu,cpuacct")
    assert covering_mounts(MOUNTS, ["/var/x", "/mnt/a b/c"]) == {"41"}


def test_only_a_directory_bound_to_its_own_place_is_given_back():
    root = "1 0 254:0 / / rw - ext4 /dev/vda rw\n"
    own = "2 1 254:0 /var/lib/enxame /var/lib/enxame rw shared:1 - ext4 /dev/vda rw\n"
    disk = "3 1 254:16 / /var/lib/enxame rw shared:2 - ext4 /dev/vdb rw\n"
    elsewhere = "4 1 254:0 /srv/data /var/lib/enxame rw - ext4 /dev/vda rw\n"
    own_over_elsewhere = "5 4 254:0 /srv/data /var/lib/enxame rw shared:3 - ext4 /dev/vda rw\n"
    assert is_own_bind(root + own, "/var/lib/enxame")
    assert is_own_bind(root + elsewhere + own_over_elsewhere, "/var/lib/enxame")
    for table in (root, root + disk, root + elsewhere):
        assert not is_own_bind(table, "/var/lib/enxame"), table


def test_seccomp_conditions_on_architecture_and_capabilities():
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
            {"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["c"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        ],
    }

    def names(capabilities, machine="x86_64"):
        return [rule["names"][0] for rule in compile_profile(profile, frozenset(capabilities), machine)["syscalls"]]

    assert names([]) == ["a", "c"]
    assert names(["CAP_SYS_ADMIN"]) == ["a", "b"]
    assert names([], "aarch64") == ["a", "c", "d"]
    assert compile_profile(profile, frozenset(), "x86_64")["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]


def test_tables_of_the_kernel():
    assert parse_pairs("cache 5\nrss x\nodd\n") == {"cache": 5}
    assert system_cpu("cpu  1 2 3 4 5 6 7 8 9\n") == 28 * 10_000_000
    net = "h\nh\n  lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\neth0:9 2 0 1 0 0 0 0 7 3 0 4 0 0 0 0\n"
    assert list(parse_net_dev(net)) == ["eth0"]
    assert parse_net_dev(net)["eth0"].tx_dropped == 4


def test_ps_rows_are_those_of_the_container():
    table = "UID PID CMD\nroot 1 init x\nroot 20 sh -c a b\n"
    assert select_rows(table, {20}).processes == [["root", "20", "sh -c a b"]]
    with pytest.raises(EnxameError, match="Couldn't find PID field in ps output"):
        select_rows("A B\n", {1})
