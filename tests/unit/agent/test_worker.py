"""A task's way from assignment to its end, with a controller that does what it is told."""

import asyncio
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from enxame.agent.controller import TaskError
from enxame.agent.worker import TaskWorker
from enxame.model.task import ContainerStatus, Task, TaskState, TaskStatus

DEADLINE = 5.0


class ScriptedController:
    """Steps wait for their gate; a step with an error raises it."""

    def __init__(self, *, running=False, started=False):
        self.gates = {name: asyncio.Event() for name in ("prepare", "start", "wait", "shutdown", "remove")}
        for name in ("prepare", "start", "shutdown", "remove"):
            self.gates[name].set()
        self.errors: dict[str, TaskError] = {}
        self.calls: list[str] = []
        self.running, self.started = running, started

    async def _step(self, name):
        self.calls.append(name)
        await self.gates[name].wait()
        if name in self.errors:
            raise self.errors.pop(name)

    async def prepare(self):
        await self._step("prepare")

    async def start(self):
        await self._step("start")
        self.running = self.started = True

    async def wait(self):
        await self._step("wait")

    async def shutdown(self):
        await self._step("shutdown")

    async def remove(self):
        await self._step("remove")

    def is_running(self):
        return self.running

    def was_started(self):
        return self.started

    def container_status(self):
        return ContainerStatus(container_id="c1")

    def host_ports(self):
        return []


class Bench:
    def __init__(self, controller, *, desired=TaskState.RUNNING, state=TaskState.ASSIGNED):
        self.states: list[TaskState] = []
        self.reached = asyncio.Condition()
        task = Task(id="t1", desired_state=desired, status=TaskStatus(state=state))
        self.controller = controller
        self.worker = TaskWorker(task, controller, self._changed, lambda: datetime(2026, 1, 1, tzinfo=UTC))
        self.running = asyncio.ensure_future(self.worker.run())

    def _changed(self, task):
        self.states.append(task.status.state)

    async def until(self, state):
        async with asyncio.timeout(DEADLINE):
            while self.worker.task.status.state is not state:
                await asyncio.sleep(0)

    def desire(self, state):
        self.worker.desire(replace(self.worker.task, desired_state=state))

    async def removed(self):
        self.worker.remove()
        async with asyncio.timeout(DEADLINE):
            await self.running


@pytest.fixture
async def make():
    made: list[Bench] = []

    def build(controller=None, **options):
        made.append(Bench(controller or ScriptedController(), **options))
        return made[-1]

    yield build
    for bench in made:
        bench.running.cancel()
        await asyncio.wait({bench.running})


async def test_a_task_runs_through_all_states_in_order(make):
    bench = make()
    await bench.until(TaskState.RUNNING)
    bench.controller.gates["wait"].set()
    await bench.until(TaskState.COMPLETE)
    assert [state.value for state in bench.states] == [
        "accepted",
        "preparing",
        "ready",
        "starting",
        "running",
        "complete",
    ]


async def test_a_task_that_is_only_wanted_ready_waits_to_start(make):
    bench = make(desired=TaskState.READY)
    await bench.until(TaskState.READY)
    await asyncio.sleep(0)
    assert "start" not in bench.controller.calls
    bench.desire(TaskState.RUNNING)
    await bench.until(TaskState.RUNNING)


async def test_a_task_that_cannot_be_prepared_is_rejected(make):
    controller = ScriptedController()
    controller.errors["prepare"] = TaskError("No such image: nosuch:latest")
    bench = make(controller)
    await bench.until(TaskState.REJECTED)
    assert bench.worker.task.status.err == "No such image: nosuch:latest"


@pytest.mark.parametrize("step", ["start", "wait"])
async def test_a_task_that_started_and_failed_is_failed(make, step):
    controller = ScriptedController()
    controller.errors[step] = TaskError("task: non-zero exit (1)")
    controller.gates["wait"].set()
    bench = make(controller)
    await bench.until(TaskState.FAILED)
    assert bench.worker.task.status.err == "task: non-zero exit (1)"


async def test_shutting_down_a_running_task_stops_it(make):
    bench = make()
    await bench.until(TaskState.RUNNING)
    bench.desire(TaskState.SHUTDOWN)
    await bench.until(TaskState.SHUTDOWN)
    assert bench.controller.calls[-1] == "shutdown"
    assert "remove" not in bench.controller.calls


@pytest.mark.parametrize("stuck", ["prepare", "start"])
async def test_shutting_down_interrupts_what_hangs(make, stuck):
    controller = ScriptedController()
    controller.gates[stuck].clear()
    bench = make(controller)
    async with asyncio.timeout(DEADLINE):
        while stuck not in controller.calls:
            await asyncio.sleep(0)
    bench.desire(TaskState.SHUTDOWN)
    await bench.until(TaskState.SHUTDOWN)


async def test_a_task_that_runs_is_stopped_before_its_removal_by_one_who_has_patience(make):
    bench = make()
    await bench.until(TaskState.RUNNING)
    bench.worker.remove(DEADLINE)
    async with asyncio.timeout(DEADLINE):
        await bench.running
    assert bench.controller.calls[-2:] == ["shutdown", "remove"]


async def test_patience_with_a_task_that_does_not_stop_ends(make):
    bench = make()
    await bench.until(TaskState.RUNNING)
    bench.controller.gates["shutdown"].clear()
    bench.worker.remove(0.05)
    async with asyncio.timeout(DEADLINE):
        await bench.running
    assert bench.controller.calls[-1] == "remove"


async def test_removal_ends_the_worker_and_removes_the_container(make):
    bench = make()
    await bench.until(TaskState.RUNNING)
    await bench.removed()
    assert bench.controller.calls[-1] == "remove"


async def test_a_terminal_task_is_only_ever_removed(make):
    bench = make(state=TaskState.FAILED, desired=TaskState.SHUTDOWN)
    await bench.removed()
    assert bench.controller.calls == ["remove"]


async def test_a_running_container_is_adopted_without_preparing_it_again(make):
    bench = make(ScriptedController(running=True, started=True), state=TaskState.RUNNING)
    async with asyncio.timeout(DEADLINE):
        while "wait" not in bench.controller.calls:
            await asyncio.sleep(0)
    assert bench.controller.calls == ["wait"]
    assert bench.states == []


async def test_a_container_that_ended_while_nobody_looked_gives_its_exit(make):
    controller = ScriptedController(started=True)
    controller.errors["wait"] = TaskError("task: non-zero exit (3)")
    controller.gates["wait"].set()
    bench = make(controller, state=TaskState.RUNNING)
    await bench.until(TaskState.FAILED)
    assert controller.calls == ["wait"]


async def test_a_container_that_vanished_fails_the_task(make):
    bench = make(state=TaskState.RUNNING)
    await bench.until(TaskState.FAILED)
    assert bench.worker.task.status.err == "the task's container is gone"


async def test_cancelling_the_worker_leaves_the_container_alone(make):
    bench = make()
    await bench.until(TaskState.RUNNING)
    bench.running.cancel()
    await asyncio.wait({bench.running})
    assert bench.controller.calls == ["prepare", "start", "wait"]


async def test_a_desired_state_never_goes_back(make):
    bench = make()
    await bench.until(TaskState.RUNNING)
    bench.desire(TaskState.SHUTDOWN)
    bench.desire(TaskState.RUNNING)
    await bench.until(TaskState.SHUTDOWN)
