"""Rounds of making and removing through the API leave a daemon as it was."""

import pytest

from enxame.testing.daemons import Daemon, wait_until
from enxame.testing.leaks import LeakProbe
from enxame.testing.sample_image import DEFAULT_TAG as IMAGE

pytestmark = pytest.mark.timeout(300)


def test_two_hundred_containers_come_and_go_and_leave_nothing(daemon: Daemon) -> None:
    probe = LeakProbe(daemon)
    before = None
    for number in range(200):
        bindings = {"80/tcp": [{"HostPort": "8300"}]}
        host = {"PortBindings": bindings, "Memory": 64 << 20, "Tmpfs": {"/t": ""}}
        body = {"Image": IMAGE, "Cmd": ["sleep", "60"], "HostConfig": host, "Volumes": {"/v": {}}}
        container = daemon.api.post("/containers/create", body)["Id"]
        probe.saw(container)
        if number % 4:
            daemon.api.post(f"/containers/{container}/start")
        daemon.api.delete(f"/containers/{container}", force="1", v="1")
        if number == 20:  # pools have filled
            before = probe.holdings()
    assert before is not None
    probe.expect_nothing_leaked(before)
    assert daemon.api.get("/volumes")["Volumes"] in (None, [])


def test_services_come_and_go_and_leave_nothing(swarm: Daemon) -> None:
    probe = LeakProbe(swarm)

    def one_round(number: int) -> None:
        spec = {
            "Name": f"round{number}",
            "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}},
            "Mode": {"Replicated": {"Replicas": 5}},
            "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8301}]},
        }
        service = swarm.api.post("/services/create", spec)["ID"]

        def running() -> bool:
            tasks = swarm.api.get("/tasks", filters={"service": [service]})
            return sum(task["Status"]["State"] == "running" for task in tasks) == 5

        wait_until(running, "the replicas run")
        for container in swarm.api.get("/containers/json"):
            probe.saw(container["Id"])
        swarm.api.delete(f"/services/{service}")
        wait_until(lambda: not swarm.api.get("/containers/json", all="1"), "the containers are gone")

    one_round(0)
    before = probe.holdings()
    for number in range(1, 13):
        one_round(number)
    probe.expect_nothing_leaked(before)
