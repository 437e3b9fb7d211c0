"""Services find each other across machines: names, virtual addresses, and how soon both follow what happens."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from enxame.testing.promises import allowed
from enxame.testing.sample_image import DEFAULT_TAG
from tests.cluster.test_network_mesh import HEALTH, Inside, change, containers
from tests.engine.name_questions import PTR, A, ask_name, query, read

ONE_A_MACHINE = {"Placement": {"MaxReplicas": 1}}


@pytest.fixture
def app(cluster: Cluster) -> Iterator[str]:
    """The id of an attachable network."""
    network = str(
        cluster.manager.api.post("/networks/create", {"Name": "app", "Driver": "overlay", "Attachable": True})["Id"]
    )
    yield network
    for machine in cluster.machines:
        for container in machine.api.get("/containers/json", all="1", filters={"label": ["alone"]}):
            machine.api.delete(f"/containers/{container['Id']}", force="1")
    api = cluster.manager.api  # the test may have restarted the manager
    for service in api.get("/services"):
        api.delete(f"/services/{service['ID']}")

    def removed() -> bool:
        with suppress(ApiError):
            api.delete(f"/networks/{network}")
            return True
        return False

    wait_until(removed, "the network can be removed")


class Asker(Inside):
    """A container that asks for names."""

    def resolve(self, name: str, kind: int = A) -> tuple[int, list[str]]:
        """The answer's code, and its addresses or names."""
        code, found = read(self._inside.submit(lambda: ask_name(query(name, kind))).result(10))
        return code, sorted(found)


def on(network: str, **template: object) -> dict:
    return {"TaskTemplate": {"Networks": [{"Target": network, "Aliases": ["front"]}], **template}}


def addresses(cluster: Cluster, service: str, network: str) -> list[str]:
    """Of the running tasks of a service on a network."""
    return sorted(
        address.partition("/")[0]
        for task in cluster.running(service)
        for attachment in task["NetworksAttachments"]
        if attachment["Network"]["ID"] == network
        for address in attachment["Addresses"]
    )


def virtual_address(cluster: Cluster, service: str, network: str) -> str:
    def shown() -> list[str]:
        vips = cluster.manager.api.get(f"/services/{service}")["Endpoint"].get("VirtualIPs", [])
        return [vip["Addr"].partition("/")[0] for vip in vips if vip["NetworkID"] == network]

    return wait_until(shown, f"{service} has its virtual address")[0]


def reverse(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def reached(asker: Asker, address: str, times: int = 40) -> set[str]:
    """Who answers HTTP at an address."""
    return {asker.http_get(address, 80, timeout=3).strip() for _ in range(times)}


def reached_at_last(asker: Asker, address: str, names: set[str]) -> None:
    """Wait until all of them answer: a task without a health check serves before it listens."""

    def answered() -> set[str]:
        with suppress(ConnectionRefusedError):
            return reached(asker, address)
        return set()

    wait_until(lambda: answered() == names, "all answer")


def run(machine: Machine, name: str, network: str, *aliases: str) -> str:
    """A container outside any service."""
    settings = {"EndpointsConfig": {network: {"Aliases": list(aliases)}}}
    body = {"Image": DEFAULT_TAG, "Labels": {"alone": ""}, "NetworkingConfig": settings}
    container = str(machine.api.post("/containers/create", body, name=name)["Id"])
    machine.api.post(f"/containers/{container}/start")
    return container


def test_services_tasks_and_containers_find_each_other_on_all_machines(cluster: Cluster, app: str) -> None:
    cluster.create_service("web", 3, **on(app, **ONE_A_MACHINE))
    cluster.create_service("db", 2, EndpointSpec={"Mode": "dnsrr"}, **on(app, **ONE_A_MACHINE))
    cluster.create_service("elsewhere", 1)
    vip, web, db = virtual_address(cluster, "web", app), addresses(cluster, "web", app), addresses(cluster, "db", app)
    alone = run(cluster.workers[0], "single", "app", "one")
    with ExitStack() as stack:
        places = {**containers(cluster, "web"), alone: cluster.workers[0]}
        askers = {name: stack.enter_context(Asker(machine, name)) for name, machine in places.items()}
        for asker in askers.values():
            wait_until(lambda a=asker: a.resolve("tasks.web") == (0, web), "all tasks are named")
            wait_until(lambda a=asker: a.resolve("tasks.db") == (0, db), "all tasks are named")
            assert asker.resolve("web") == asker.resolve("web.app") == (0, [vip])
            assert asker.resolve("db") == (0, db)
            assert asker.resolve("front") == (0, sorted([vip, *db]))
            assert asker.resolve(reverse(vip), PTR) == (0, ["web.app"])
            code, found = asker.resolve(reverse(web[0]), PTR)
            assert code == 0
            assert found[0].startswith("web.")
            for name in ("single", "one", alone[:12]):
                assert len(asker.resolve(name)[1]) == 1, name
            assert asker.resolve("elsewhere")[1] == []
            # Each task, and its own service with it, by the one address.
            reached_at_last(asker, vip, set(containers(cluster, "web")))
            for address in db:
                assert len(reached(asker, address, 1)) == 1
        (other,) = containers(cluster, "elsewhere").items()
        outsider = stack.enter_context(Asker(other[1], other[0]))
        with pytest.raises(OSError, match=r"refused|timed out"):
            outsider.resolve("web")  # it is on no network with names


def test_names_and_virtual_addresses_follow_health_and_scale_within_200_ms(cluster: Cluster, app: str) -> None:
    cluster.create_service("client", 3, **on(app, **ONE_A_MACHINE))
    checked = {"ContainerSpec": {"Healthcheck": {**HEALTH, "Test": ["CMD-SHELL", "test -e /tmp/well"]}}}
    body = {"Name": "web", "Mode": {"Replicated": {"Replicas": 3}}, **on(app, **ONE_A_MACHINE, **checked)}
    body["TaskTemplate"]["ContainerSpec"]["Image"] = DEFAULT_TAG
    service = cluster.manager.api.post("/services/create", body)["ID"]
    with ExitStack() as stack:
        askers = [stack.enter_context(Asker(machine, name)) for name, machine in containers(cluster, "client").items()]
        vip = virtual_address(cluster, "web", app)

        def starting() -> list[dict]:
            return [task for task in cluster.tasks("web") if task["Status"]["State"] == "starting"]

        waiting = wait_until(lambda: len(found := starting()) == 3 and found, "all wait to be healthy")
        for asker in askers:
            assert asker.resolve("tasks.web") == (0, [])
            assert asker.resolve("web") == (0, [vip])
            with pytest.raises(ConnectionRefusedError):
                asker.http_get(vip, 80)
        machines = {machine.swarm()["NodeID"]: machine for machine in cluster.machines}
        for task in waiting:
            machine = machines[task["NodeID"]]
            make_well(machine, task["Status"]["ContainerStatus"]["ContainerID"])
        slowest = follows(cluster, askers, app, 3)
        change(cluster, service, Mode={"Replicated": {"Replicas": 1}})
        slowest = max(slowest, follows(cluster, askers, app, 1))
        assert reached(askers[0], vip, 6) == set(containers(cluster, "web"))
        print(f"names changed within {slowest * 1e3:.0f} ms")
        # The goal is 200 ms; a busy machine must not fail this.
        assert slowest < allowed(1)


def make_well(machine: Machine, container: str) -> None:
    made = machine.api.post(f"/containers/{container}/exec", {"Cmd": ["touch", "/tmp/well"]})
    machine.api.post(f"/exec/{made['Id']}/start", {"Detach": True})


def follows(cluster: Cluster, askers: list[Asker], network: str, count: int) -> float:
    """Seconds from when the manager knows who runs until all askers do."""
    wait_until(lambda: len(cluster.running("web")) == count, f"{count} run")
    known = time.monotonic()
    wanted = addresses(cluster, "web", network)
    for asker in askers:
        wait_until(lambda a=asker: a.resolve("tasks.web") == (0, wanted), "the name follows", interval=0.005)
    return time.monotonic() - known


def test_containers_go_on_while_no_manager_and_no_daemon_runs(cluster: Cluster, app: str) -> None:
    cluster.create_service("web", 3, **on(app, **ONE_A_MACHINE))
    vip, names = virtual_address(cluster, "web", app), set(containers(cluster, "web"))
    worker = cluster.workers[0]
    (mine,) = [name for name, machine in containers(cluster, "web").items() if machine is worker]
    with Asker(worker, mine) as asker:
        reached_at_last(asker, vip, names)
        cluster.manager.kill()
        worker.kill()
        assert reached(asker, vip) == names
        worker.start()
        # Nobody told it anything: it knows what the one before knew.
        assert asker.resolve("web") == (0, [vip])
        assert len(asker.resolve("tasks.web")[1]) == 3
        assert reached(asker, vip) == names
        cluster.manager.start()
        wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all are back")
        assert reached(asker, vip) == names


def test_a_lost_machine_leaves_names_and_addresses_and_comes_back(cluster: Cluster, app: str) -> None:
    cluster.create_service("web", 3, **on(app, **ONE_A_MACHINE))
    vip = virtual_address(cluster, "web", app)
    lost, stays = cluster.workers
    (mine,) = [name for name, machine in containers(cluster, "web").items() if machine is stays]
    with Asker(stays, mine) as asker:
        wait_until(lambda: len(asker.resolve("tasks.web")[1]) == 3, "all are named")
        node = cluster.node(lost)["ID"]
        lost.network.cut()
        wait_until(lambda: cluster.states()[node] == "down", "it is marked down")
        wait_until(lambda: len(asker.resolve("tasks.web")[1]) == 2, "two are named", timeout=1)
        assert len(reached(asker, vip)) == 2
        lost.network.heal()
        wait_until(lambda: cluster.states()[node] == "ready", "it is back")
        wait_until(lambda: len(asker.resolve("tasks.web")[1]) == 3, "all are named again")
        reached_at_last(asker, vip, set(containers(cluster, "web")))


def test_an_application_of_two_services_made_with_the_stock_command(cluster: Cluster, docker) -> None:
    command = docker(cluster.manager)
    command("network", "create", "-d", "overlay", "shop")
    try:
        command("service", "create", "-d", "--name", "back", "--network", "shop", "--replicas", "3", DEFAULT_TAG)
        options = ("--network", "shop", "--mode", "global", "-p", "8090:80")
        command("service", "create", "-d", "--name", "front", *options, DEFAULT_TAG)
        wait_until(lambda: len(cluster.running("back")) == len(cluster.running("front")) == 3, "all of it runs")
        backs, network = set(containers(cluster, "back")), command("network", "inspect", "-f", "{{.ID}}", "shop")
        vip = virtual_address(cluster, "back", network)
        for container, machine in containers(cluster, "front").items():
            there = docker(machine)

            def asked(container: str = container, there=there) -> set[str]:
                # The sample image's wget is static and knows no names.
                asking = ("exec", container, "wget", "-qO-", f"http://{vip}/")
                return {there.result(*asking).out.strip() for _ in range(12)}

            wait_until(lambda: asked() == backs, "the front asks all of the back")
            assert vip in there("exec", container, "nslookup", "back")
            listed = there("exec", container, "nslookup", "tasks.back")
            assert all(address in listed for address in addresses(cluster, "back", network))
            address = machine.network.host_address
            fronts = {machine.network.host.http_get(address, 8090).strip() for _ in range(6)}
            assert fronts == set(containers(cluster, "front"))
    finally:
        command("service", "rm", "back", "front")
        wait_until(lambda: not any(machine.task_containers() for machine in cluster.machines), "no task is left")
        wait_until(lambda: command.result("network", "rm", "shop").code == 0, "the network can be removed")
