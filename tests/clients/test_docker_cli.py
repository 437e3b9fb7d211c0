"""The stock docker command, unmodified: containers."""

import json
import re
import time

import pytest

from enxame.testing.daemons import wait_until
from enxame.testing.promises import allowed
from tests.clients.command import IMAGE, Command, columns, started

pytestmark = pytest.mark.usefixtures("tidy")


def test_version_names_client_and_server(docker: Command) -> None:
    text = docker("version")
    assert "Client" in text
    assert "Server" in text
    assert re.fullmatch(r"1\.\d+", docker("version", "--format", "{{.Server.APIVersion}}"))


def test_run_prints_what_the_container_prints_on_the_same_streams(docker: Command) -> None:
    result = docker.result("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2")
    assert (result.code, result.out, result.err) == (0, "out\n", "err\n")
    assert docker("ps", "-aq") == ""


@pytest.mark.parametrize("code", [1, 7, 137])
def test_run_ends_with_the_containers_exit_code(docker: Command, code: int) -> None:
    assert docker.result("run", "--rm", IMAGE, "sh", "-c", f"exit {code}").code == code


def test_run_of_an_unknown_program_fails_with_127_and_leaves_a_created_container(docker: Command) -> None:
    result = docker.result("run", "--name", "nothing", IMAGE, "/no/such/program")
    assert result.code == 127
    assert re.search(r"no such file or directory|executable file not found", result.err)
    assert docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "nothing") == "created 127"


def test_standard_input_reaches_the_container_to_its_end(docker: Command) -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    assert docker("run", "-i", "--rm", IMAGE, "wc", "-l", stdin=text).strip() == "20000"


def test_a_megabyte_comes_back_as_it_went_in(docker: Command) -> None:
    text = "0123456789abcdef" * 65_536
    result = docker.result("run", "-i", "--rm", IMAGE, "cat", stdin=text)
    assert (result.code, result.out == text) == (0, True)


def test_run_on_a_terminal_gives_the_container_a_terminal(docker: Command) -> None:
    code, screen = docker.on_terminal(
        "run", "-it", "--rm", IMAGE, "sh", "-c", "tty; echo -n '? '; read x; echo got $x", typed="abc\n"
    )
    assert code == 0
    assert re.search(r"/dev/(pts/\d+|console)", screen)
    assert "got abc" in screen


def test_environment_user_directory_and_hostname_are_the_containers(docker: Command) -> None:
    options = ("-e", "A=b c", "-w", "/tmp", "-u", "nobody", "--hostname", "box")
    script = "echo $A; pwd; id -un; hostname"
    assert docker("run", "--rm", *options, IMAGE, "sh", "-c", script).splitlines() == ["b c", "/tmp", "nobody", "box"]


def test_exec_runs_beside_the_container_with_its_own_streams_and_code(docker: Command) -> None:
    container = started(docker)
    assert docker("exec", container, "hostname") == container[:12]
    result = docker.result("exec", "-e", "X=1", container, "sh", "-c", "echo $X; echo bad >&2; exit 5")
    assert (result.code, result.out, result.err) == (5, "1\n", "bad\n")
    assert docker("exec", "-i", container, "tr", "a-z", "A-Z", stdin="shout") == "SHOUT"


def test_exec_on_a_terminal(docker: Command) -> None:
    container = started(docker)
    code, screen = docker.on_terminal(
        "exec", "-it", container, "sh", "-c", "tty; echo -n '? '; read x; exit $x", typed="9\n"
    )
    assert code == 9
    assert "/dev/pts/" in screen


def test_exec_into_a_stopped_container_is_refused(docker: Command) -> None:
    container = docker("create", IMAGE)
    assert f"Container {container} is not running" in docker.refused("exec", container, "true")


def test_logs_tail_timestamps_since_and_streams(docker: Command) -> None:
    docker("run", "--name", "talks", IMAGE, "sh", "-c", "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three")
    both = docker.result("logs", "talks")
    assert (both.out, both.err) == ("one\nthree\n", "two\n")
    assert docker.result("logs", "--tail", "1", "talks").out == "three\n"
    stamped = docker("logs", "-t", "talks").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ", line) for line in stamped)
    assert docker.result("logs", "--since", "2100-01-01T00:00:00Z", "talks").out == ""
    assert docker.result("logs", "--until", "2001-01-01T00:00:00Z", "talks").out == ""


def test_logs_follow_until_the_container_ends(docker: Command) -> None:
    container = docker("run", "-d", IMAGE, "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done")
    assert docker("logs", "-f", container, timeout=20).split() == ["1", "2", "3", "4", "5"]


def test_ps_shows_filters_and_formats(docker: Command) -> None:
    started(docker, "--name", "web", "--label", "tier=front", "-p", "8090:80")
    docker("run", "--name", "done", IMAGE, "true")
    (row,) = columns(docker("ps"))
    assert (row["NAMES"], row["IMAGE"], row["COMMAND"]) == ("web", IMAGE, '"/bin/serve"')
    assert row["STATUS"].startswith("Up ")
    assert "0.0.0.0:8090->80/tcp" in row["PORTS"]
    assert docker("ps", "-a", "--format", "{{.Names}}").split() == ["done", "web"]
    assert docker("ps", "-a", "--filter", "status=exited", "--format", "{{.Names}}") == "done"
    assert docker("ps", "-a", "--filter", "label=tier=front", "--format", "{{.Names}}") == "web"
    assert docker("ps", "-a", "--filter", "name=on", "--format", "{{.Names}}") == "done"
    assert re.match(r"Exited \(0\)", docker("ps", "-a", "--filter", "name=done", "--format", "{{.Status}}"))


def test_stop_lets_the_container_end_by_itself(docker: Command) -> None:
    container = started(docker)
    began = time.monotonic()
    assert docker("stop", container) == container
    assert time.monotonic() - began < allowed(5)
    assert docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", container) == "exited 0"


def test_stop_kills_what_does_not_listen_after_its_grace(docker: Command) -> None:
    container = docker("run", "-d", IMAGE, "sleep", "1000")
    began = time.monotonic()
    docker("stop", "-t", "1", container)
    assert 0.9 < time.monotonic() - began < allowed(5)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", container) == "137"


def test_kill_with_a_signal(docker: Command) -> None:
    container = started(docker)
    docker("kill", "-s", "TERM", container)
    assert docker("wait", container) == "0"
    assert f"Container {container} is not running" in docker.refused("kill", container)


def test_wait_prints_the_exit_code(docker: Command) -> None:
    container = docker("run", "-d", IMAGE, "sh", "-c", "sleep 0.3; exit 3")
    assert docker("wait", container) == "3"


def test_restart_gives_a_new_process_in_the_same_container(docker: Command) -> None:
    container = started(docker)
    docker("exec", container, "touch", "/kept")
    before = docker("inspect", "-f", "{{.State.Pid}}", container)
    docker("restart", container)
    assert docker("inspect", "-f", "{{.State.Pid}}", container) not in ("0", before)
    assert docker("exec", container, "ls", "/kept") == "/kept"


def test_start_attached_shows_a_stopped_container_again(docker: Command) -> None:
    docker("create", "--name", "again", IMAGE, "echo", "hello")
    assert docker("start", "-a", "again") == "hello"
    assert docker("start", "-a", "again") == "hello"


def test_restart_policy_brings_a_failed_container_back(docker: Command) -> None:
    docker("run", "-d", "--name", "stubborn", "--restart", "on-failure:2", IMAGE, "sh", "-c", "exit 1")
    state = "{{.RestartCount}} {{.State.Status}}"
    wait_until(
        lambda: docker("inspect", "-f", state, "stubborn") == "2 exited", "two restarts, then it stays", timeout=20
    )


def test_a_running_container_is_only_removed_by_force(docker: Command) -> None:
    container = started(docker)
    assert re.search(
        rf"You cannot remove a running container {container}\. "
        r"Stop the container before attempting removal or force remove"
        r'|cannot remove container "/\w+": container is running: stop the container before removing or force remove',
        docker.refused("rm", container),
    )
    assert docker("rm", "-f", container) == container
    assert docker("ps", "-aq") == ""


def test_names_are_unique_and_ids_may_be_shortened(docker: Command) -> None:
    container = docker("create", "--name", "only", IMAGE)
    assert 'Conflict. The container name "/only" is already in use by container' in docker.refused(
        "create", "--name", "only", IMAGE
    )
    assert docker("inspect", "-f", "{{.Id}} {{.Name}}", container[:12]) == f"{container} /only"
    assert docker("rm", container[:6]) == container[:6]


def test_bind_mount_volume_and_tmpfs(docker: Command, tmp_path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    docker("volume", "create", "--label", "a=b", "data")
    mounts = ("-v", f"{tmp_path}:/host:ro", "-v", "data:/data", "--tmpfs", "/scratch:size=1m")
    script = "cat /host/in; echo kept > /data/f; grep -c ' /scratch tmpfs' /proc/mounts; touch /host/no 2>&1"
    result = docker.result("run", "--rm", *mounts, IMAGE, "sh", "-c", script)
    assert result.out.splitlines()[:2] == ["from the host", "1"]
    assert "Read-only file system" in result.out
    assert docker("run", "--rm", "-v", "data:/data", IMAGE, "cat", "/data/f") == "kept"
    assert [row["VOLUME NAME"] for row in columns(docker("volume", "ls"))] == ["data"]
    assert docker("volume", "inspect", "-f", "{{.Labels.a}}", "data") == "b"
    assert docker("volume", "rm", "data") == "data"
    assert "no such volume" in docker.refused("volume", "inspect", "data").lower()


def test_a_volume_in_use_is_not_removed(docker: Command) -> None:
    container = docker("create", "-v", "busy:/data", IMAGE)
    message = docker.refused("volume", "rm", "busy")
    assert f"volume is in use - [{container}]" in message
    docker("rm", container)
    docker("volume", "rm", "busy")


def test_memory_processor_and_process_limits_hold(docker: Command) -> None:
    limits = ("--memory", "32m", "--cpus", "0.5", "--pids-limit", "20")
    container = started(docker, *limits)
    shown = docker(
        "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}", container
    )
    assert shown == "33554432 500000000 20"
    fork = "for i in $(seq 40); do sleep 5 & done; echo all"
    assert "fork" in docker.result("exec", container, "sh", "-c", fork).err
    # tail keeps its last line in memory: /dev/zero has only one
    assert docker.result("run", "--memory", "16m", "--name", "hungry", IMAGE, "tail", "/dev/zero").code == 137
    assert docker("inspect", "-f", "{{.State.OOMKilled}}", "hungry") == "true"


def test_privileges_are_few_by_default(docker: Command) -> None:
    status = docker("run", "--rm", IMAGE, "cat", "/proc/self/status")
    assert re.search(r"^CapEff:\s+00000000a80425fb$", status, re.M)
    assert re.search(r"^Seccomp:\s+2$", status, re.M)
    dropped = docker(
        "run", "--rm", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", IMAGE, "cat", "/proc/self/status"
    )
    assert re.search(r"^CapEff:\s+0000000000000000$", dropped, re.M)
    assert re.search(r"^NoNewPrivs:\s+1$", dropped, re.M)
    assert docker.result("run", "--rm", IMAGE, "mount", "-t", "tmpfs", "x", "/tmp").code != 0


def test_events_tell_what_happened(docker: Command) -> None:
    began = f"{time.time():.6f}"
    docker("run", "--name", "seen", IMAGE, "true")
    docker("rm", "seen")
    ended = str(int(time.time()) + 1)  # in a moment: the daemon ends the stream
    events = docker("events", "--since", began, "--until", ended, "--filter", "container=seen", timeout=20)
    told = [action for action in re.findall(r" container (\w+) ", events) if action not in ("attach", "resize")]
    assert told == ["create", "start", "die", "destroy"]


def test_stats_and_top_show_a_running_container(docker: Command) -> None:
    container = started(docker, "--name", "busy")
    (row,) = columns(docker("stats", "--no-stream", container))
    assert row["NAME"] == "busy"
    assert not row["MEM USAGE / LIMIT"].startswith("0B")
    assert "httpd" in docker("top", container)


def test_attach_joins_a_running_container(docker: Command) -> None:
    container = docker("run", "-d", IMAGE, "sh", "-c", "sleep 1; echo late; exit 4")
    result = docker.result("attach", "--no-stdin", container)
    assert (result.code, result.out) == (4, "late\n")


def test_start_attached_with_standard_input_ends_when_the_input_does(docker: Command) -> None:
    container = docker("create", "-i", IMAGE, "cat")
    assert docker("start", "-ai", container, stdin="to the end") == "to the end"


def test_a_container_that_is_removed_by_itself_is_gone_with_its_volume(docker: Command) -> None:
    assert docker("run", "--rm", "-v", "/anonymous", IMAGE, "true") == ""
    assert docker("ps", "-aq") == ""
    assert docker("volume", "ls", "-q") == ""


ERRORS = [
    (("inspect", "nothing"), "Error: No such object: nothing"),
    (("container", "inspect", "nothing"), "No such container: nothing"),
    (("start", "nothing"), "No such container: nothing"),
    (("logs", "nothing"), "No such container: nothing"),
    (("rm", "nothing"), "No such container: nothing"),
    (("network", "inspect", "nothing"), "nothing"),
    (("create", "--name", "a b", IMAGE), "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    (("create", "--memory", "1m", IMAGE), "Minimum memory limit allowed is"),
    (("create", "--network", "nowhere", "--name", "lost", IMAGE), None),
    (("service", "ls"), "This node is not a swarm manager."),
    (("node", "ls"), "This node is not a swarm manager."),
]


@pytest.mark.parametrize(
    ("argv", "message"), ERRORS, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_errors_have_dockers_words(docker: Command, argv: tuple[str, ...], message: str | None) -> None:
    if message is None:  # the network is looked for when the container starts
        docker(*argv)
        message, argv = "network nowhere not found", ("start", "lost")
    assert message in docker.refused(*argv)


def test_inspection_tells_what_a_container_has_not_what_was_said(docker: Command) -> None:
    docker(
        "create", "--name", "plain", "--tmpfs", "/scratch", "--mount", "type=tmpfs,dst=/work", "-v", "kept:/kept", IMAGE
    )
    shown = json.loads(docker("inspect", "plain"))[0]
    host = shown["HostConfig"]
    assert (host["IpcMode"], host["MemorySwappiness"], host["PidsLimit"]) == ("private", None, None)
    assert host["CgroupnsMode"] in {"host", "private"}
    assert "/proc/kcore" in host["MaskedPaths"]
    assert "/proc/sys" in host["ReadonlyPaths"]
    # Before it was ever started.
    assert {mount["Destination"]: mount["Type"] for mount in shown["Mounts"]} == {"/work": "tmpfs", "/kept": "volume"}
    docker("create", "--name", "open", "--privileged", IMAGE)
    assert docker("inspect", "-f", "{{.HostConfig.MaskedPaths}} {{.HostConfig.ReadonlyPaths}}", "open") == "[] []"


def test_clients_before_api_1_45_find_a_containers_own_names_among_its_aliases(docker: Command) -> None:
    docker("network", "create", "aliased")
    ref = docker("run", "-d", "--network", "aliased", "--network-alias", "web", "--hostname", "box", IMAGE)
    wanted = "{{json .NetworkSettings.Networks.aliased.Aliases}}"
    docker.environment["DOCKER_API_VERSION"] = "1.41"
    assert json.loads(docker("inspect", "-f", wanted, ref)) == ["web", ref[:12], "box"]
    docker("rm", "-f", ref)
    docker("network", "rm", "aliased")


def test_small_mistakes_get_dockers_words(docker: Command) -> None:
    docker("create", "--name", "one", IMAGE)
    docker("create", "--name", "two", IMAGE)
    for words, said in (
        (
            ("rename", "one", "two"),
            'Error when allocating new name: Conflict. The container name "/two" is already in use',
        ),
        (("rename", "one", "a/b"), "Error when allocating new name: Invalid container name (/a/b), only"),
        (("image", "prune", "-f", "--filter", "until=soon"), 'failed to parse value as time or duration: "soon"'),
        (("push", "nothing"), "An image does not exist locally with the tag: nothing"),
        (("save", "nothing"), "No such image: nothing"),
        (("create", "--log-opt", "mode=odd", IMAGE), "logger: logging mode not supported: odd"),
        (("pull", "127.0.0.1:1/nothing"), "Error response from daemon: "),
        (("import", "-c", "RUN x", "/dev/null"), "run is not a valid change command"),
        (("import", "--platform", "windows", "/dev/null"), "operating system is not supported"),
    ):
        assert said in docker.refused(*words), words


def test_a_restart_is_told_as_a_stop_and_a_start(docker: Command) -> None:
    began = int(time.time())
    ref = started(docker)
    docker("restart", "-t", "5", ref)
    told = docker(
        "events",
        "--since",
        str(began),
        "--until",
        str(int(time.time()) + 1),
        "--filter",
        f"container={ref}",
        "--format",
        "{{.Action}}",
    ).split()
    assert [word for word in told if word in {"die", "stop", "start", "restart"}][-4:] == [
        "die",
        "stop",
        "start",
        "restart",
    ]
    docker("rm", "-f", ref)
