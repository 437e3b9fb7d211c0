from __future__ import annotations

import pytest

from enxame.agent.task_machine import Operation, failed, is_to_stop, plan, succeeded
from enxame.model.task import TaskState as S


@pytest.mark.parametrize(
    ("state", "desired", "reports", "operation"),
    [
        (S.ASSIGNED, S.RUNNING, ["accepted", "preparing"], Operation.PREPARE),
        (S.ASSIGNED, S.READY, ["accepted", "preparing"], Operation.PREPARE),
        (S.ACCEPTED, S.RUNNING, ["preparing"], Operation.PREPARE),
        (S.PREPARING, S.RUNNING, [], Operation.PREPARE),
        (S.READY, S.READY, [], Operation.NOTHING),
        (S.READY, S.RUNNING, ["starting"], Operation.START),
        (S.READY, S.COMPLETE, ["starting"], Operation.START),
        (S.STARTING, S.RUNNING, [], Operation.START),
        (S.RUNNING, S.RUNNING, [], Operation.WAIT),
        (S.RUNNING, S.COMPLETE, [], Operation.WAIT),
        (S.RUNNING, S.SHUTDOWN, [], Operation.SHUTDOWN),
        (S.ASSIGNED, S.SHUTDOWN, [], Operation.SHUTDOWN),
        (S.PREPARING, S.REMOVE, [], Operation.SHUTDOWN),
        (S.SHUTDOWN, S.SHUTDOWN, [], Operation.NOTHING),
        (S.FAILED, S.RUNNING, [], Operation.NOTHING),
        (S.COMPLETE, S.REMOVE, [], Operation.NOTHING),
    ],
)
def test_what_comes_next(state: S, desired: S, reports: list[str], operation: Operation) -> None:
    step = plan(state, desired)
    assert [report.message for report in step.reports] == reports
    assert step.operation is operation


@pytest.mark.parametrize("desired", [S.READY, S.RUNNING, S.COMPLETE, S.SHUTDOWN, S.REMOVE])
def test_every_life_ends_or_waits_for_the_manager_and_states_only_grow(desired: S) -> None:
    state = S.ASSIGNED
    for _ in range(10):
        step = plan(state, desired)
        for report in step.reports:
            assert report.state > state
            state = report.state
        if step.operation is Operation.NOTHING:
            break
        after = succeeded(step.operation)
        assert after.state > state
        state = after.state
    expected = S.READY if desired is S.READY else S.SHUTDOWN if is_to_stop(desired) else S.COMPLETE
    assert state is expected


@pytest.mark.parametrize(
    ("state", "end"),
    [
        (S.ACCEPTED, S.REJECTED),
        (S.PREPARING, S.REJECTED),
        (S.READY, S.REJECTED),
        (S.STARTING, S.FAILED),
        (S.RUNNING, S.FAILED),
    ],
)
def test_a_failure_before_the_start_is_a_rejection(state: S, end: S) -> None:
    assert failed(state) is end
