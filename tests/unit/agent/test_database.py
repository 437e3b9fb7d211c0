"""The node's own memory of its tasks."""

from enxame.agent.database import TaskDatabase
from enxame.model.task import Task, TaskState


async def reopened(path):
    database = TaskDatabase(path)
    try:
        return {task.id: task for task in await database.open()}
    finally:
        await database.close()


async def test_tasks_survive_a_restart(tmp_path):
    database = TaskDatabase(tmp_path / "tasks.db")
    assert await database.open() == []
    kept = Task(id="a", desired_state=TaskState.RUNNING)
    database.save(Task(id="a"))
    database.save(kept)
    database.save(Task(id="b"))
    database.forget("b")
    await database.close()
    assert await reopened(tmp_path / "tasks.db") == {"a": kept}


async def test_a_damaged_file_is_set_aside_and_replaced(tmp_path):
    path = tmp_path / "tasks.db"
    path.write_bytes(b"this is no database" * 1000)
    assert await reopened(path) == {}
    assert path.with_suffix(".damaged").read_bytes().startswith(b"this is no")


async def test_the_file_is_for_root_alone(tmp_path):
    await reopened(tmp_path / "tasks.db")
    assert (tmp_path / "tasks.db").stat().st_mode & 0o777 == 0o600
