"""Debian's docker-compose, unmodified: an application of three containers, two networks and volumes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from enxame.testing.daemons import Daemon, wait_until
from tests.clients.command import IMAGE, Command
from tests.conftest import remove_containers

APPLICATION = f"""
version: "3.7"
x-service: &service
  image: {IMAGE}
services:
  web:
    <<: *service
    depends_on: [store]
    ports: ["18080:80"]
    networks: [front, back]
    environment: {{GREETING: hello}}
    labels: {{tier: web}}
    restart: unless-stopped
  store:
    <<: *service
    networks:
      back: {{aliases: [database]}}
    volumes: ["kept:/kept", "/scratch"]
  job:
    <<: *service
    command: ["sh", "-c", "echo begun; hostname > /kept/job; sleep 600"]
    stop_grace_period: 1s
    networks: [back]
    volumes: ["kept:/kept", "./given:/given:ro"]
networks:
  front:
  back: {{internal: true, labels: {{side: back}}}}
volumes:
  kept: {{labels: {{side: kept}}}}
"""


@pytest.fixture
def compose(daemon: Daemon, tmp_path: Path) -> Iterator[Command]:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("needs docker-compose")
    project = tmp_path / "shop"
    (project / "given").mkdir(parents=True)
    (project / "given" / "text").write_text("from the host\n")
    (project / "docker-compose.yml").write_text(APPLICATION)
    command = Command(program, daemon, tmp_path)
    command.environment |= {"COMPOSE_FILE": str(project / "docker-compose.yml"), "COMPOSE_ANSI": "never"}
    yield command
    command.result("down", "-v", "-t", "1")
    remove_containers(daemon)


def states(daemon: Daemon) -> dict[str, str]:
    return {
        container["Labels"]["com.docker.compose.service"]: container["State"]
        for container in daemon.api.get("/containers/json", all="1")
    }


def test_an_application_goes_up_is_used_and_goes_down(compose: Command, daemon: Daemon) -> None:
    compose("up", "-d", timeout=120)
    assert states(daemon) == {"web": "running", "store": "running", "job": "running"}
    table = compose("ps")
    assert all(name in table for name in ("shop_web_1", "shop_store_1", "shop_job_1", "18080->80/tcp"))

    wait_until(lambda: "begun" in compose("logs", "job"), "the job has begun")
    assert compose("exec", "-T", "job", "cat", "/given/text") == "from the host"
    assert compose("exec", "-T", "store", "cat", "/kept/job") == compose("exec", "-T", "job", "hostname")
    assert compose("exec", "-T", "web", "sh", "-c", "echo $GREETING") == "hello"
    assert compose("port", "web", "80") == "0.0.0.0:18080"

    made = {name: daemon.api.get(f"/networks/shop_{name}") for name in ("front", "back")}
    assert [made["back"]["Internal"], made["back"]["Labels"]["side"]] == [True, "back"]
    assert {one["Name"] for one in made["back"]["Containers"].values()} == {"shop_web_1", "shop_store_1", "shop_job_1"}
    assert {one["Name"] for one in made["front"]["Containers"].values()} == {"shop_web_1"}

    compose("down", "-v", "-t", "1", timeout=120)
    assert states(daemon) == {}
    assert not [network for network in daemon.api.get("/networks") if network["Name"].startswith("shop_")]
    assert not [volume for volume in daemon.api.get("/volumes")["Volumes"] if volume["Name"].startswith("shop_")]


def test_services_find_each_other_by_name_and_alias(compose: Command) -> None:
    compose("up", "-d", timeout=120)
    for name in ("store", "database", "web"):
        wait_until(
            lambda name=name: (
                "hostname" in compose.result("exec", "-T", "job", "wget", "-qO-", f"http://{name}/").out
                or compose.result("exec", "-T", "job", "wget", "-qO-", f"http://{name}/").code == 0
            ),
            f"{name} answers",
        )


def test_a_changed_service_is_made_anew_and_keeps_its_volumes(compose: Command, daemon: Daemon) -> None:
    compose("up", "-d", timeout=120)
    compose("exec", "-T", "store", "sh", "-c", "echo kept > /kept/a; echo scratch > /scratch/b")
    before = {
        container["Labels"]["com.docker.compose.service"]: container["Id"]
        for container in daemon.api.get("/containers/json")
    }
    file = Path(compose.environment["COMPOSE_FILE"])
    file.write_text(file.read_text().replace("labels: {tier: web}", "labels: {tier: front}"))
    compose("up", "-d", "-t", "1", timeout=120)
    after = {
        container["Labels"]["com.docker.compose.service"]: container["Id"]
        for container in daemon.api.get("/containers/json")
    }
    assert (after["store"], after["job"]) == (before["store"], before["job"])
    assert after["web"] != before["web"]
    compose("up", "-d", "-t", "1", "--force-recreate", "store", timeout=120)
    assert compose("exec", "-T", "store", "cat", "/kept/a", "/scratch/b").split() == ["kept", "scratch"]


def test_scale_stop_start_restart_and_run(compose: Command, daemon: Daemon) -> None:
    compose("up", "-d", "--scale", "job=2", timeout=120)
    assert len(daemon.api.get("/containers/json", filters={"label": ["com.docker.compose.service=job"]})) == 2
    compose("stop", "-t", "1")
    assert set(states(daemon).values()) == {"exited"}
    compose("start")
    assert set(states(daemon).values()) == {"running"}
    compose("restart", "-t", "1", "store")
    assert states(daemon)["store"] == "running"
    assert compose("run", "--rm", "-T", "--no-deps", "job", "echo", "once").splitlines()[-1] == "once"
