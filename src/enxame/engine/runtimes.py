"""The OCI runtimes of a daemon: the one that containers get unasked, and those that may be asked for by name."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from enxame.engine.cgroups import CgroupLayout, CgroupMode
from enxame.engine.processes import run
from enxame.engine.runtime import Runtime
from enxame.engine.runtime_namespace import RuntimeNamespace
from enxame.engine.runtime_probe import find_runtime, open_namespace
from enxame.errors import EnxameError, InvalidArgument

__all__ = ["BUILT_IN", "RuntimeProgram", "Runtimes", "find_runtimes"]

_log = logging.getLogger(__name__)
#: What needs no configuration where it is installed.
BUILT_IN: Final = ("crun", "runc")
#: Docker's names for its own runtime: clients send them back. They mean the default where there is no runc.
_DOCKERS: Final = frozenset({"runc", "io.containerd.runc.v2"})
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION_DEADLINE: Final = 10.0


@dataclass(frozen=True, slots=True)
class RuntimeProgram:
    """A runtime as it is configured: a program (a path, or a name of PATH) and further words for each call of it."""

    path: str
    arguments: tuple[str, ...] = ()


class Runtimes:
    """The runtimes by name."""

    def __init__(self, default: Runtime, others: Iterable[Runtime] = ()) -> None:
        self.default = default
        self._by_name = {runtime.name: runtime for runtime in [*others, default]}

    def __iter__(self) -> Iterator[Runtime]:
        return iter(self._by_name[name] for name in sorted(self._by_name))

    def choose(self, name: str) -> Runtime:
        """What a client's word means.

        Raises:
            InvalidArgument: ``unknown or invalid runtime name: X``.
        """
        if not name:
            return self.default
        found = self._by_name.get(name)
        if found is not None:
            return found
        if name in _DOCKERS:
            return self.default
        raise InvalidArgument(f"unknown or invalid runtime name: {name}")

    def of(self, name: str) -> Runtime:
        """That of a container which is there; the default when its own is configured no more."""
        return self._by_name.get(name, self.default)

    @property
    def namespaces(self) -> list[RuntimeNamespace]:
        """The mount namespaces that they run in."""
        found = {id(one.namespace): one.namespace for one in self._by_name.values() if one.namespace is not None}
        return list(found.values())


async def find_runtimes(
    data_root: Path,
    exec_root: Path,
    layout: CgroupLayout,
    *,
    default: str = "",
    configured: Mapping[str, RuntimeProgram] | None = None,
) -> Runtimes:
    """The runtimes of this machine and of the configuration. ``default`` is a name; without it the faster of the
    built-in ones that really runs a container.

    Raises:
        EnxameError: the default does not work, or none does.
    """
    programs = dict(configured or {})
    own = await find_runtime(data_root, exec_root, layout, "" if default in programs else default)
    namespace = own.namespace
    others: list[Runtime] = []
    for name, program in {**{name: RuntimeProgram(name) for name in BUILT_IN if name != own.name}, **programs}.items():
        path = shutil.which(program.path, path=_PATH)
        if path is None:
            if name in programs:
                raise EnxameError(f"the program of runtime {name} is not there: {program.path}")
            continue
        kind = await _kind(path)
        if kind == "crun" and layout.mode is CgroupMode.HYBRID and namespace is None:
            try:
                namespace = await open_namespace(data_root, exec_root)
            except (OSError, TimeoutError) as error:
                _log.warning("runtime %s is left out: %s", name, error)
                continue
        others.append(own.sibling(path, name, kind, program.arguments, namespace if kind == "crun" else None))
    chosen = next((one for one in others if one.name == default), own)
    return Runtimes(chosen, [one for one in [own, *others] if one is not chosen])


async def _kind(path: str) -> str:
    """Whose command line it understands: the first word that ``--version`` says."""
    if Path(path).name in BUILT_IN:
        return Path(path).name
    try:
        _, said = await run([path, "--version"], timeout=_VERSION_DEADLINE)
    except (OSError, TimeoutError) as error:
        raise EnxameError(f"the runtime {path} does not say its version: {error}") from error
    return (said.split() or [""])[0]
