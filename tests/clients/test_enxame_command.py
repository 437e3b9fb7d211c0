"""The enxame command from outside: the same tables, words and exit codes as docker's, on the same daemon."""

import json
import re

import pytest

from enxame.testing.daemons import Daemon, wait_until
from tests.clients.command import IMAGE, Command, docker_programs


@pytest.fixture
def newest_docker(swarm: Daemon, tmp_path) -> Command:
    return Command(docker_programs()[0], swarm, tmp_path)


@pytest.fixture
def busy(swarm: Daemon, enxame: Command) -> Command:
    """A swarm with a service of two, a running container and one that ended."""
    enxame(
        "service", "create", "-d", "--name", "web", "--replicas", "2", "-p", "8500:80", "--label", "tier=front", IMAGE
    )
    enxame("run", "-d", "--name", "alone", "-p", "8501:80", IMAGE)
    assert enxame.result("run", "--name", "ended", IMAGE, "sh", "-c", "exit 3").code == 3
    wait_until(lambda: enxame("service", "ls", "--format", "{{.Replicas}}") == "2/2", "both replicas run")
    return enxame


SAME = [
    "node ls",
    "node ls -q",
    "node ps",
    "node inspect self",
    "node inspect --format {{.Status.Addr}} self",
    "service ls",
    "service ls -q",
    "service ls --filter name=we",
    "service ls --filter label=tier=back",
    "service ls --format {{.Name}}:{{.Replicas}}",
    "service ls --format json",
    "service ps web",
    "service ps --no-trunc web",
    "service ps -q web",
    "service ps --filter desired-state=shutdown web",
    "service inspect web",
    "service inspect --pretty web",
    "service inspect --format {{json_.Spec.Mode}} web",
    "ps",
    "ps -a",
    "ps -aq --no-trunc",
    "ps -a --filter status=exited",
    "ps -a --format {{.Names}}:{{.Status}}",
    "container ls --format table_{{.ID}}\t{{.Image}}",
    "container inspect alone",
    "inspect --format {{.State.ExitCode}} ended",
    "logs alone",
    "port alone",
    "images",
    "images -q",
    "image inspect enxame/sample:latest",
    "history enxame/sample:latest",
    "volume ls",
    "network ls",
    "swarm join-token worker",
    "swarm join-token -q manager",
]


@pytest.mark.parametrize("line", SAME)
def test_output_is_dockers_own(busy: Command, newest_docker: Command, line: str) -> None:
    argv = [word.replace("_", " ") if "{{" in word else word for word in line.split(" ")]

    def difference() -> tuple[object, object] | None:
        ours, theirs = comparable(busy(*argv)), comparable(newest_docker(*argv).replace("docker swarm", "enxame swarm"))
        return None if ours == theirs else (ours, theirs)

    # Ages such as "5 seconds ago" may change between the two: asked again.
    try:
        wait_until(lambda: difference() is None, "the same output", timeout=4)
    except TimeoutError:
        ours, theirs = difference() or ("", "")
        assert ours == theirs


def comparable(text: str) -> object:
    """JSON by its values; docker reads and writes times anew, without zeros at the end of a fraction. What nodes say
    beyond Docker's description is left out: docker drops what it does not know.
    """
    text = re.sub(r"(T\d\d:\d\d:\d\d\.\d*?)0+Z", r"\1Z", text)
    if not text.startswith("[\n"):
        return text
    objects = json.loads(text)
    for each in objects:
        for name in ("DataPathAddr", "Subnets", "CertificateSerial"):
            each.get("Description", {}).pop(name, None)
    return objects


FAILING = [
    "service ps nothing",
    "service inspect nothing",
    "service rm nothing",
    "service scale web",
    "service scale web=-1",
    "node inspect nothing",
    "node rm nothing",
    "inspect nothing",
    "logs nothing",
    "start nothing",
    "stop nothing",
    "rm alone",
    "rmi no/such",
    "swarm init",
    "swarm leave",
    "service create --name web enxame/sample",
    "service create --replicas x enxame/sample",
    "ps --filter nonsense",
    "run -p nonsense enxame/sample",
]


@pytest.mark.parametrize("line", FAILING)
def test_failures_have_dockers_exit_code_and_streams(busy: Command, newest_docker: Command, line: str) -> None:
    ours, theirs = busy.result(*line.split()), newest_docker.result(*line.split())
    assert (ours.code, ours.out.strip()) == (theirs.code, theirs.out.strip()), (ours, theirs)
    assert bool(ours.err) == bool(theirs.err)
    said = [line for line in theirs.err.splitlines() if line.startswith("Error response from daemon")]
    assert [line for line in ours.err.splitlines() if line.startswith("Error response from daemon")] == said


def test_run_attached_detached_and_on_a_terminal(enxame: Command) -> None:
    result = enxame.result("run", "--rm", "-i", IMAGE, "sh", "-c", "cat; echo err >&2; exit 9", stdin="in\n")
    assert (result.code, result.out, result.err) == (9, "in\n", "err\n")
    code, screen = enxame.on_terminal(
        "run", "--rm", "-it", IMAGE, "sh", "-c", "tty; printf '? '; read x; exit $x", typed="6\n"
    )
    assert code == 6
    assert "/dev/" in screen
    container = enxame("run", "-d", IMAGE)
    assert enxame("exec", container, "hostname") == container[:12]
    assert enxame("rm", "-f", container) == container


def test_format_json_is_json(busy: Command) -> None:
    rows = [json.loads(line) for line in busy("service", "ls", "--format", "{{json .}}").splitlines()]
    assert rows[0]["Name"] == "web"
    assert json.loads(busy("info", "--format", "{{json .Swarm}}"))["LocalNodeState"] == "active"


def test_no_daemon_is_said_plainly(enxame: Command) -> None:
    enxame.environment["ENXAME_HOST"] = enxame.environment["DOCKER_HOST"] = "unix:///no/such.sock"
    result = enxame.result("ps")
    assert result.code == 1
    assert "Cannot connect to the" in result.err
    assert "unix:///no/such.sock" in result.err
    assert "Traceback" not in result.err


def test_help_lists_every_verb_of_a_noun(enxame: Command) -> None:
    text = enxame("service", "--help")
    for verb in ("create", "inspect", "logs", "ls", "ps", "rm", "scale", "update"):
        assert re.search(rf"^ +{verb} ", text, re.M), verb
    assert enxame.result("service", "nonsense").code != 0
    assert re.match(r"Enxame version \d+\.\d+", enxame("--version"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_there_for_each_shell(enxame: Command, shell: str) -> None:
    assert "enxame" in enxame("completion", shell)
