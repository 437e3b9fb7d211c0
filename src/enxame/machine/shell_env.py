"""The lines of ``machine env``, for each shell."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from enxame.machine.errors import MachineError


@dataclass(frozen=True)
class _Shell:
    """How a variable is set and taken away, and the line that tells how to run all of it."""

    set: str
    unset: str
    hint: str


_POSIX: Final = _Shell(
    'export {name}="{value}"', "unset {name}", "# Run this command to configure your shell: \n# eval $({command})"
)
_SHELLS: Final = {
    "fish": _Shell(
        'set -gx {name} "{value}";',
        "set -e {name};",
        "# Run this command to configure your shell: \n# {command} | source",
    ),
    "powershell": _Shell(
        '$Env:{name} = "{value}"',
        r"Remove-Item Env:\\{name}",
        "# Run this command to configure your shell: \n# & {command} | Invoke-Expression",
    ),
    "cmd": _Shell(
        "SET {name}={value}",
        "SET {name}=",
        "REM Run this command to configure your shell: \nREM \t@FOR /f \"tokens=*\" %i IN ('{command}') DO @%i",
    ),
    "tcsh": _Shell(
        'setenv {name} "{value}";',
        "unsetenv {name};",
        "# Run this command to configure your shell: \n# eval `{command}`",
    ),
    "emacs": _Shell(
        '(setenv "{name}" "{value}")',
        '(setenv "{name}" nil)',
        ';; Run this command to configure your shell: \n;; (with-temp-buffer (shell-command "{command}" '
        "(current-buffer)) (eval-buffer))",
    ),
}

#: What points at a machine, in docker-machine's order.
VARIABLES: Final = ("DOCKER_TLS_VERIFY", "DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_MACHINE_NAME")


def detect_shell(environment: Mapping[str, str]) -> str:
    """The user's shell, by its name. Raises MachineError when nothing tells."""
    shell = environment.get("SHELL", "")
    if not shell:
        raise MachineError("Error: Unknown shell")
    return os.path.basename(shell)


def lines_to_set(shell: str, variables: Mapping[str, str], words: list[str]) -> list[str]:
    """``words`` is the command line that printed this, for the hint."""
    kind = _SHELLS.get(shell, _POSIX)
    lines = [kind.set.format(name=name, value=value) for name, value in variables.items()]
    return [*lines, *kind.hint.format(command=_command(shell, words)).split("\n")]


def lines_to_unset(shell: str, names: list[str], words: list[str]) -> list[str]:
    """The opposite of :func:`lines_to_set`."""
    kind = _SHELLS.get(shell, _POSIX)
    lines = [kind.unset.format(name=name) for name in names]
    return [*lines, *kind.hint.format(command=_command(shell, words)).split("\n")]


def _command(shell: str, words: list[str]) -> str:
    return " ".join(words) if shell in {"cmd", "powershell", "emacs"} else shlex.join(words)


def without_proxy(environment: Mapping[str, str], address: str) -> tuple[str, str]:
    """The variable that exempts hosts from proxies, and its value with ``address`` in it."""
    name = "no_proxy" if "no_proxy" in environment and "NO_PROXY" not in environment else "NO_PROXY"
    hosts = [host for host in environment.get(name, "").split(",") if host]
    return name, ",".join(hosts if address in hosts else [*hosts, address])
