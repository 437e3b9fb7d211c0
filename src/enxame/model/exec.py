"""Processes run beside a container's own: ``docker exec``."""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Model, always


class ExecCreateRequest(Model):
    """Body of ``POST /containers/{id}/exec``."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    tty: bool = field(default=False, name="Tty")
    env: list[str] = field(default_factory=list)
    cmd: list[str] | str = field(default_factory=list)
    privileged: bool = False
    user: str = ""
    working_dir: str = ""
    console_size: list[int] | None = None


class ExecProcessConfig(Model):
    """What an exec runs; the API's names are lower case here."""

    tty: bool = always(default=False, name="tty")
    entrypoint: str = always(default="", name="entrypoint")
    arguments: list[str] = always(default_factory=list, name="arguments")
    privileged: bool = always(default=False, name="privileged")
    user: str = field(default="", name="user")


class ExecInspect(Model):
    """Answer of ``GET /exec/{id}/json``. ``exit_code`` is null while it runs."""

    id: str = always(default="")
    running: bool = always(default=False)
    exit_code: int | None = always(default=None)
    process_config: ExecProcessConfig = always(default_factory=ExecProcessConfig)
    open_stdin: bool = always(default=False)
    open_stderr: bool = always(default=False)
    open_stdout: bool = always(default=False)
    can_remove: bool = always(default=False)
    container_id: str = always(default="")
    detach_keys: str = always(default="")
    pid: int = always(default=0, name="Pid")
