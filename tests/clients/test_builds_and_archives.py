"""Building, saving and loading as a user does it: docker and enxame alike, against a whole daemon."""

import shutil
import time
from pathlib import Path

import pytest

from tests.clients.command import IMAGE, Command

pytestmark = pytest.mark.skipif(not shutil.which("buildah"), reason="needs buildah")


@pytest.fixture
def builds(tool: Command) -> Command:
    """Newer docker commands use the classic builder only when they are told."""
    tool.environment["DOCKER_BUILDKIT"] = "0"
    return tool


def project(directory: Path, dockerfile: str) -> str:
    directory.mkdir()
    (directory / "Dockerfile").write_text(dockerfile)
    (directory / "page").write_text("from the context\n")
    (directory / "secret").write_text("no\n")
    (directory / ".dockerignore").write_text("secret\n")
    return str(directory)


def test_an_image_is_built_and_run(builds: Command, tmp_path: Path) -> None:
    # The step says something new every time: what another test left in the cache is not what is looked for.
    where = project(
        tmp_path / "p", f'FROM {IMAGE}\nCOPY . /c/\nRUN ls /c; echo {time.time_ns()} >/n\nCMD ["cat", "/c/page"]\n'
    )
    said = builds("build", "-t", "built:1", where)
    assert f"Step 1/4 : FROM {IMAGE}" in said
    assert "Successfully tagged built:1" in said
    assert "secret" not in said
    assert builds("run", "--rm", "built:1") == "from the context"
    assert "Using cache" in builds("build", "-t", "built:1", where)
    image_id = builds("build", "-q", where).splitlines()[-1]
    assert builds("inspect", "-f", "{{.Id}}", "built:1") == image_id
    assert builds("inspect", "-f", "{{.Config.Hostname}}{{.Comment}}", "built:1") == ""
    assert "base" not in builds("history", "--no-trunc", "--format", "{{.Comment}}", "built:1")
    builds("rmi", "built:1")


def test_a_dockerfile_from_standard_input_has_a_context(builds: Command, tmp_path: Path) -> None:
    where = project(tmp_path / "p", "FROM scratch\n")
    builds("build", "-t", "piped:1", "-f", "-", where, stdin=f"FROM {IMAGE}\nCOPY page /page\n")
    assert builds("run", "--rm", "piped:1", "cat", "/page") == "from the context"
    builds("rmi", "piped:1")


def test_what_runs_during_a_build_has_a_network_of_its_own(builds: Command, tmp_path: Path) -> None:
    where = project(tmp_path / "p", f"FROM {IMAGE}\nRUN ip addr; echo {time.time_ns()}\n")
    assert "172.17." in builds("build", where)
    assert "172.17." not in builds("build", "--no-cache", "--network", "none", where)


def test_a_step_that_fails_fails_the_command(builds: Command, tmp_path: Path) -> None:
    where = project(tmp_path / "p", f"FROM {IMAGE}\nRUN exit 9\n")
    result = builds.result("build", where)
    assert result.code == 9
    assert "The command '/bin/sh -c exit 9' returned a non-zero code: 9" in result.err


def test_limits_of_a_build_hold_for_what_it_runs(builds: Command, tmp_path: Path) -> None:
    where = project(tmp_path / "p", f"FROM {IMAGE}\nRUN nproc; echo {time.time_ns()}; exec sleep 0.1\n")
    said = builds("build", "--cpuset-cpus", "0", "--memory", "64m", "--cpu-quota", "50000", where)
    assert "\n1\n" in said
    left = [path for root in Path("/sys/fs/cgroup").iterdir() for path in (root / "enxame").glob("build-*")]
    assert left == []
    greedy = project(tmp_path / "g", f"FROM {IMAGE}\nRUN head -c 200m /dev/zero | tail -c 150m | wc -c\n")
    assert builds.result("build", "--memory", "16m", "--memory-swap", "16m", greedy).code != 0
    assert "cpuset.cpus" in builds.refused("build", "--cpuset-cpus", "999", where)


def test_a_dockerfile_may_come_through_standard_input_but_not_from_elsewhere(builds: Command) -> None:
    if builds.name == "docker":
        said = builds("build", "-", stdin=f"FROM {IMAGE}\nLABEL made={time.time_ns()}\n")
        assert "Successfully built" in said


def test_an_image_saved_is_loaded_again(tool: Command, tmp_path: Path) -> None:
    tool("tag", IMAGE, "kept:1")
    image_id = tool("inspect", "-f", "{{.Id}}", "kept:1")
    tool("save", "-o", str(tmp_path / "kept.tar"), "kept:1")
    tool("rmi", "kept:1")
    assert "Loaded image: kept:1" in tool("load", "-i", str(tmp_path / "kept.tar"))
    assert tool("inspect", "-f", "{{.Id}}", "kept:1") == image_id
    tool("rmi", "kept:1")
