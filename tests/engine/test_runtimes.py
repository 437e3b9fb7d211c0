"""Several OCI runtimes in one daemon."""

import os
import shutil
from pathlib import Path

import pytest

from enxame.engine.cgroups import detect_layout
from enxame.engine.runtimes import RuntimeProgram, find_runtimes
from enxame.errors import EnxameError, InvalidArgument
from enxame.model.container import ContainerCreateRequest, HostConfig
from enxame.model.exec import ExecCreateRequest
from enxame.model.filters import Filters
from tests.engine.conftest import bench

pytestmark = pytest.mark.skipif(
    not (shutil.which("crun") and shutil.which("runc")), reason="needs crun and runc beside each other"
)


def recorder(directory: Path, program: str) -> tuple[str, Path]:
    """A runtime of one's own: it notes its words and hands them on."""
    notes, script = directory / f"{program}.notes", directory / f"my-{program}"
    script.write_text(f'#!/bin/sh\necho "$@" >>{notes}\nexec {shutil.which(program)} "$@"\n')
    script.chmod(0o755)
    return str(script), notes


@pytest.fixture
async def several(tmp_path, base_rootfs, request):
    """A bench with the built-in runtimes and two configured ones; the parameter is the default."""
    ours = {}
    for program in ("crun", "runc"):
        path, _ = recorder(tmp_path, program)
        ours[f"my-{program}"] = RuntimeProgram(path, ("--debug",))
    for directory in (tmp_path / "data", tmp_path / "run"):
        directory.mkdir(mode=0o711)
    default = getattr(request, "param", "")
    found = await find_runtimes(tmp_path / "data", tmp_path / "run", detect_layout(), default=default, configured=ours)
    async with bench(tmp_path, base_rootfs, found) as made:
        yield made


def notes(engine, program):
    path = engine.root / f"{program}.notes"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("several", ["", "runc", "my-runc"], indirect=True)
async def test_a_container_lives_with_the_runtime_it_asked_for(several):
    names = [one.name for one in several.containers.runtimes]
    assert names == ["crun", "my-crun", "my-runc", "runc"]
    for name in names:
        ref = await several.run("sleep", "60", name=f"on-{name}", host=HostConfig(runtime=name))
        shown = several.containers.inspect(ref)
        assert (shown.host_config.runtime, shown.state.running) == (name, True)
        identity = await several.containers.exec_create(ref, ExecCreateRequest(cmd=["true"], attach_stdout=True))
        attachment = await several.containers.exec_start(identity, detach=False, tty=False)
        assert [frame async for frame in attachment.frames()] == []
        await several.containers.stop(ref, timeout=0)
        await several.containers.start(ref)
        await several.containers.remove(ref, force=True)
    for program in ("crun", "runc"):
        said = notes(several, program)
        assert "--debug" in said
        assert " create " in said
        assert " exec " in said
    assert not os.listdir(several.exec_root / "runtime")


async def test_unasked_the_default_is_taken_and_shown(several):
    made = await several.containers.create("", ContainerCreateRequest(image="base", cmd=["true"]))
    assert several.containers.inspect(made.id).host_config.runtime == several.containers.runtimes.default.name
    assert notes(several, "crun") == "--version\n"


async def test_an_unknown_runtime_is_refused_in_dockers_words(several):
    with pytest.raises(InvalidArgument, match="unknown or invalid runtime name: nope"):
        await several.run("true", host=HostConfig(runtime="nope"))
    assert not list(several.containers.list(all=True, filters=Filters()))


async def test_a_runtime_that_is_configured_no_more_is_told_at_the_next_start(several, tmp_path):
    ref = await several.run("true", host=HostConfig(runtime="my-runc"))
    await several.containers.wait(ref)
    await several.containers.close()
    several.runtime = ""
    await several.open()
    with pytest.raises(InvalidArgument, match="unknown or invalid runtime name: my-runc"):
        await several.containers.start(ref)
    await several.containers.remove(ref)


async def test_a_configured_runtime_whose_program_is_missing_stops_the_daemon_with_its_name(tmp_path):
    for directory in (tmp_path / "data", tmp_path / "run"):
        directory.mkdir()
    ours = {"mine": RuntimeProgram("/no/such/program")}
    with pytest.raises(EnxameError, match="the program of runtime mine is not there: /no/such/program"):
        await find_runtimes(tmp_path / "data", tmp_path / "run", detect_layout(), configured=ours)
