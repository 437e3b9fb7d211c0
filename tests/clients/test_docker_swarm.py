"""The stock docker command, unmodified: services, tasks and nodes of a swarm of one."""

import json
import re

import pytest

from enxame.testing.daemons import Daemon, wait_until
from tests.clients.command import IMAGE, Command, columns

pytestmark = pytest.mark.usefixtures("swarm")


def create(docker: Command, name: str, *options: str) -> str:
    """A service whose replicas run; its id. Detached: the command itself would watch them for five seconds more."""
    identity = docker("service", "create", "-d", "--name", name, *options, IMAGE)

    def complete() -> bool:
        running, _, wanted = docker(
            "service", "ls", "--filter", f"id={identity}", "--format", "{{.Replicas}}"
        ).partition("/")
        return bool(wanted) and running == wanted

    wait_until(complete, f"the replicas of {name} run")
    return identity


def containers_of(docker: Command, service: str) -> list[str]:
    return docker("ps", "-q", "--no-trunc", "--filter", f"label=com.docker.swarm.service.name={service}").split()


def test_create_without_detach_waits_until_the_tasks_run(docker: Command) -> None:
    text = docker("service", "create", "--name", "web", "--replicas", "3", IMAGE)
    assert "overall progress: 3 out of 3 tasks" in text
    assert re.search(r"verify: Service (\w+ )?converged", text)
    assert len(containers_of(docker, "web")) == 3


def test_service_tables(docker: Command) -> None:
    identity = create(docker, "web", "--replicas", "2", "-p", "8100:80", "-p", "8101:81/udp")
    (row,) = columns(docker("service", "ls"))
    assert (row["ID"], row["NAME"], row["MODE"], row["REPLICAS"]) == (identity[:12], "web", "replicated", "2/2")
    assert set(row["PORTS"].split(", ")) == {"*:8100->80/tcp", "*:8101->81/udp"}
    assert docker("service", "ls", "-q") == identity[:12]
    assert docker("service", "ls", "--format", "{{.Name}} {{.Replicas}}") == "web 2/2"
    assert docker("service", "ls", "--filter", "name=other", "-q") == ""
    assert docker("service", "ls", "--filter", f"id={identity[:5]}", "-q") == identity[:12]
    tasks = columns(docker("service", "ps", "web"))
    assert sorted(task["NAME"] for task in tasks) == ["web.1", "web.2"]
    assert docker("service", "ps", "-q", "--filter", "name=web.2", "web") in {task["ID"] for task in tasks} | set(
        docker("service", "ps", "-q", "--no-trunc", "web").split()
    )
    assert columns(docker("node", "ps"))[0]["IMAGE"] == IMAGE


def test_inspect_shows_the_spec_as_given(docker: Command) -> None:
    options = (
        *("--replicas", "1", "-e", "A=1", "--label", "l=2", "--container-label", "c=3", "--limit-memory", "64m"),
        *("--reserve-cpu", "0.1", "--stop-grace-period", "3s"),
        *("--restart-condition", "on-failure", "--restart-delay", "1s"),
        *("--restart-max-attempts", "2", "--constraint", "node.role==manager", "--update-parallelism", "2"),
        *("--update-delay", "1s", "--update-order", "start-first", "--mount", "type=volume,src=vol,dst=/v"),
        *("--hostname", "box-{{.Task.Slot}}", "--workdir", "/tmp", "--user", "nobody", "--cap-drop", "NET_RAW"),
    )
    create(docker, "spec", *options)
    (service,) = json.loads(docker("service", "inspect", "spec"))
    task = service["Spec"]["TaskTemplate"]
    container = task["ContainerSpec"]
    assert container["Env"] == ["A=1"]
    assert container["Labels"] == {"c": "3"}
    assert service["Spec"]["Labels"] == {"l": "2"}
    assert task["Resources"]["Limits"]["MemoryBytes"] == 64 << 20
    assert task["Resources"]["Reservations"]["NanoCPUs"] == 100_000_000
    assert container["StopGracePeriod"] == 3_000_000_000
    assert (task["RestartPolicy"]["Condition"], task["RestartPolicy"]["MaxAttempts"]) == ("on-failure", 2)
    assert task["Placement"]["Constraints"] == ["node.role==manager"]
    assert (service["Spec"]["UpdateConfig"]["Parallelism"], service["Spec"]["UpdateConfig"]["Order"]) == (
        2,
        "start-first",
    )
    assert service["Spec"]["EndpointSpec"]["Mode"] == "vip"
    pretty = docker("service", "inspect", "--pretty", "spec")
    assert re.search(r"^Name:\s+spec$", pretty, re.M)
    assert re.search(r"^ Replicas:\s+1$", pretty, re.M)
    assert docker("service", "inspect", "-f", "{{.Spec.Name}}", "spec") == "spec"
    (one,) = containers_of(docker, "spec")
    assert docker("exec", one, "sh", "-c", "hostname; pwd; id -un; echo $A").splitlines() == [
        "box-1",
        "/tmp",
        "nobody",
        "1",
    ]
    labels = json.loads(docker("inspect", "-f", "{{json .Config.Labels}}", one))
    assert labels["com.docker.swarm.service.name"] == "spec"
    assert labels["com.docker.swarm.task.name"].startswith("spec.1.")
    assert labels["c"] == "3"


def test_rolling_update_replaces_every_task_and_is_told(docker: Command) -> None:
    create(docker, "roll", "--replicas", "3", "--update-parallelism", "2", "--update-monitor", "100ms")
    before = containers_of(docker, "roll")
    assert "overall progress: 0 out of 3 tasks" in docker("service", "update", "--env-add", "B=2", "roll")
    state = "{{.UpdateStatus.State}} {{.UpdateStatus.Message}}"
    wait_until(
        lambda: docker("service", "inspect", "-f", state, "roll") == "completed update completed",
        "the update is complete",
    )
    after = containers_of(docker, "roll")
    assert len(after) == 3
    assert not set(before) & set(after)
    assert docker("exec", after[0], "sh", "-c", "echo $B") == "2"
    shut = [row for row in columns(docker("service", "ps", "roll")) if row["DESIRED STATE"] == "Shutdown"]
    assert {row["NAME"] for row in shut} == {r"\_ roll.1", r"\_ roll.2", r"\_ roll.3"}
    assert docker("service", "inspect", "-f", "{{.PreviousSpec.Name}}", "roll") == "roll"


def test_an_update_that_changes_nothing_of_the_tasks_replaces_none(docker: Command) -> None:
    create(docker, "still", "--replicas", "2")
    before = containers_of(docker, "still")
    docker("service", "update", "--label-add", "x=y", "still")
    assert containers_of(docker, "still") == before


def test_update_force_replaces_the_tasks(docker: Command) -> None:
    create(docker, "forced", "--update-monitor", "100ms")
    before = containers_of(docker, "forced")
    docker("service", "update", "--force", "forced")
    wait_until(lambda: containers_of(docker, "forced") not in ([], before), "the task is another")


def test_scale_up_and_down(docker: Command) -> None:
    create(docker, "one")
    create(docker, "two")
    assert "one scaled to 3" in docker("service", "scale", "one=3", "two=2")
    assert len(containers_of(docker, "one")) == 3
    docker("service", "scale", "one=0")
    wait_until(lambda: containers_of(docker, "one") == [], "none is left")
    assert docker("service", "ls", "--filter", "name=one", "--format", "{{.Replicas}}") == "0/0"


def test_a_task_that_fails_is_restarted_by_its_policy(docker: Command) -> None:
    options = ("--restart-delay", "100ms", "--restart-max-attempts", "2", "-d")
    docker("service", "create", "--name", "fails", *options, IMAGE, "sh", "-c", "exit 3")

    def settled() -> bool:
        rows = columns(docker("service", "ps", "fails"))
        return len(rows) == 3 and all(row["CURRENT STATE"].startswith("Failed") for row in rows)

    wait_until(settled, "three tries, all failed", timeout=30)
    assert '"task: non-zero exit (3)"' in docker("service", "ps", "fails")
    assert len(columns(docker("service", "ps", "fails"))) == 3


def test_a_task_that_ends_well_is_not_restarted_on_failure_only(docker: Command) -> None:
    docker("service", "create", "--name", "ends", "--restart-condition", "on-failure", "-d", IMAGE, "true")
    wait_until(lambda: "Complete" in docker("service", "ps", "ends"), "the task is complete")
    assert len(columns(docker("service", "ps", "ends"))) == 1


def test_a_task_that_no_node_may_run_waits_and_says_why(docker: Command) -> None:
    docker("service", "create", "-d", "--name", "waits", "--constraint", "node.labels.zone==mars", IMAGE)
    wait_until(lambda: "Pending" in docker("service", "ps", "waits"), "the task is pending")
    explained = '"no suitable node (scheduling constraints not satisfied on 1 node)"'
    wait_until(lambda: explained in docker("service", "ps", "--no-trunc", "waits"), "the task says why")
    node = docker("node", "ls", "-q")
    docker("node", "update", "--label-add", "zone=mars", node)
    wait_until(lambda: len(containers_of(docker, "waits")) == 1, "the node fits now")
    docker("node", "update", "--label-rm", "zone", node)


def test_resources_that_are_not_there_are_waited_for(docker: Command) -> None:
    docker("service", "create", "-d", "--name", "big", "--reserve-cpu", "1000", IMAGE)
    explained = '"no suitable node (insufficient resources on 1 node)"'
    wait_until(lambda: explained in docker("service", "ps", "--no-trunc", "big"), "the task says why")


def test_a_drained_node_gives_its_tasks_up_and_takes_them_again(docker: Command) -> None:
    create(docker, "moves")
    node = docker("node", "ls", "-q")
    docker("node", "update", "--availability", "drain", node)
    assert columns(docker("node", "ls"))[0]["AVAILABILITY"] == "Drain"
    wait_until(lambda: containers_of(docker, "moves") == [], "the node is empty")
    docker("node", "update", "--availability", "active", node)
    wait_until(lambda: len(containers_of(docker, "moves")) == 1, "the task is back", timeout=30)


def test_service_logs_name_the_task(docker: Command) -> None:
    create(docker, "talks", "--replicas", "2")
    wait_until(
        lambda: docker("service", "logs", "talks").count("listens on port 80") == 2, "both tasks' lines are there"
    )
    lines = docker("service", "logs", "talks").splitlines()
    assert all(re.match(r"talks\.[12]\.[a-z0-9]{12}@\S+ +\| [0-9a-f]{12} listens on port 80$", line) for line in lines)
    assert all(line.endswith("listens on port 80") for line in docker("service", "logs", "--raw", "talks").splitlines())


def test_a_service_in_host_mode_publishes_on_the_node(docker: Command, daemon: Daemon) -> None:
    create(docker, "direct", "--publish", "mode=host,target=80,published=8110")
    network = daemon.network
    (container,) = containers_of(docker, "direct")
    answer = wait_until(lambda: _answer(daemon, 8110), "the port answers")
    assert answer == container[:12]
    assert set(columns(docker("service", "ps", "direct"))[0]["PORTS"].split(",")) == {"*:8110->80/tcp"}
    assert network.host.http_get("127.0.0.1", 8110).strip() == container[:12]


def _answer(daemon: Daemon, port: int) -> str:
    try:
        return daemon.network.outside.http_get(daemon.network.host_address, port, timeout=2).strip()
    except OSError:
        return ""


def test_node_tables_and_inspect(docker: Command, daemon: Daemon) -> None:
    (row,) = columns(docker("node", "ls"))
    identity = row["ID"].removesuffix(" *")
    assert docker("node", "inspect", "-f", "{{.Status.State}} {{.Spec.Role}}", "self") == "ready manager"
    assert docker("node", "inspect", "-f", "{{.ID}}", row["HOSTNAME"]) == identity
    assert docker("node", "inspect", "-f", "{{.ManagerStatus.Addr}}", "self") == f"{daemon.network.host_address}:2377"
    assert re.search(r"^ Leader:\s+Yes$", docker("node", "inspect", "--pretty", "self"), re.M)
    assert docker("node", "ls", "--filter", "role=worker", "-q") == ""


def test_swarm_update_and_tokens(docker: Command) -> None:
    assert docker("swarm", "update", "--task-history-limit", "3") == "Swarm updated."
    assert re.search(r"Task History Retention Limit: 3$", docker("info"), re.M)
    docker("swarm", "update", "--task-history-limit", "5")
    worker = docker("swarm", "join-token", "-q", "worker")
    assert re.fullmatch(r"SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}", worker)
    assert docker("swarm", "join-token", "-q", "manager").rsplit("-", 1)[0] == worker.rsplit("-", 1)[0]
    docker("swarm", "join-token", "--rotate", "-q", "worker")
    assert docker("swarm", "join-token", "-q", "worker") != worker


ERRORS = [
    (
        ("swarm", "init"),
        'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.',
    ),
    (("service", "inspect", "nothing"), "no such service: nothing"),
    (("service", "rm", "nothing"), "service nothing not found|No such service: nothing"),
    (("service", "ps", "nothing"), "no such service: nothing"),
    (("service", "logs", "nothing"), "no such task or service: nothing"),
    (("service", "scale", "-d", "nothing=2"), "service nothing not found|No such service: nothing"),
    (("node", "inspect", "nothing"), "nothing"),
    (("node", "rm", "nothing"), "node nothing not found|No such node: nothing"),
    (("service", "create", "--name", "a b", IMAGE), "name must be valid as a DNS name component"),
    (("service", "create", "--name", "x" * 64, IMAGE), "name must be 63 characters or fewer"),
    (
        ("service", "create", "--name", "there", IMAGE),
        "name conflicts with an existing object: service there already exists",
    ),
    (
        ("service", "create", "--name", "c", "--constraint", "nonsense", IMAGE),
        "constraint expected one operator from ==, !=",
    ),
    (
        ("service", "create", "--name", "m", "--limit-memory", "1m", IMAGE),
        "invalid memory value 1048576: Must be at least 4MiB",
    ),
    (("service", "create", "--name", "p", "-p", "8120:80", IMAGE), "port '8120' is already in use by service 'there'"),
    (
        ("service", "create", "--name", "d", "-p", "81:80", "--endpoint-mode", "dnsrr", IMAGE),
        "can't be used with dnsrr mode",
    ),
    (
        ("service", "create", "--name", "n", "--network", "nowhere", IMAGE),
        "network nowhere not found|No such network: nowhere",
    ),
    (
        ("service", "update", "-d", "--constraint-add", "nonsense", "there"),
        "constraint expected one operator from ==, !=",
    ),
]


@pytest.mark.parametrize(("argv", "message"), ERRORS, ids=[" ".join(argv)[:60] for argv, _ in ERRORS])
def test_errors_have_swarms_words(docker: Command, argv: tuple[str, ...], message: str) -> None:
    docker("service", "create", "-d", "--name", "there", "-p", "8120:80", "--replicas", "0", IMAGE)
    refused = docker.refused(*argv)
    assert any(words in refused for words in message.split("|")), (
        refused
    )  # old commands say "not found" in words of their own


def test_removing_a_service_removes_its_containers(docker: Command) -> None:
    create(docker, "gone", "--replicas", "2")
    assert docker("service", "rm", "gone") == "gone"
    wait_until(lambda: docker("ps", "-aq") == "", "no container is left", timeout=30)
    assert docker("service", "ls", "-q") == ""


def test_service_is_found_by_name_on_its_network_while_its_tasks_run(docker: Command) -> None:
    docker("network", "create", "-d", "overlay", "app")
    create(docker, "web", "--replicas", "2", "--network", "name=app,alias=www")
    create(docker, "client", "--network", "app", "--stop-grace-period", "0s")
    (client,) = containers_of(docker, "client")

    def found(name: str) -> set[str]:
        text = docker.result("exec", client, "nslookup", name).out
        return set(re.findall(r"Address(?: \d+)?: (10\.[\d.]+)$", text, re.MULTILINE))

    def addresses() -> set[str]:
        inspected = json.loads(docker("inspect", *containers_of(docker, "web")))
        return {container["NetworkSettings"]["Networks"]["app"]["IPAddress"] for container in inspected}

    (service,) = json.loads(docker("service", "inspect", "web"))
    virtual = {endpoint["Addr"].partition("/")[0] for endpoint in service["Endpoint"]["VirtualIPs"]}
    wait_until(lambda: found("tasks.web") == addresses(), "both tasks are found")
    for name in ("web", "www"):
        assert found(name) == virtual, name
    docker("service", "scale", "-d", "web=3")
    wait_until(lambda: len(found("tasks.web")) == 3, "the third task is found")
    docker("service", "rm", "web")
    wait_until(lambda: found("web") == found("tasks.web") == set(), "the service is found no more")
    docker("service", "rm", "client")
    wait_until(lambda: docker.result("network", "rm", "app").code == 0, "nobody is on the network")
