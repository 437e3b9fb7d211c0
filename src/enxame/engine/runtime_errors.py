"""The runtime's words to Docker's: what users and their scripts match on. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from enxame.errors import EnxameError, InvalidArgument


@dataclass(frozen=True, slots=True)
class StartFailure:
    """``exit_code`` is what the container shows: 127 no such command, 126 not executable, 128 anything else."""

    error: EnxameError
    exit_code: int


def start_failure(said: str, program: str, runtime: str) -> StartFailure:
    """Why a container did not start, from what the runtime said; ``program`` is the first word of its command."""
    reason, code = explain(said, program)
    prefix = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
    text = f"{prefix}{runtime} create failed: {reason}: unknown"
    return StartFailure(InvalidArgument(text) if code != 128 else EnxameError(text), code)


def exec_failure(said: str, program: str) -> tuple[str, int]:
    """Message and exit code of an exec that did not start."""
    reason, code = explain(said, program)
    return f"OCI runtime exec failed: exec failed: {reason}: unknown", 126 if code == 128 else code


def explain(said: str, program: str) -> tuple[str, int]:
    """The reason in Docker's words, and the exit code that goes with it."""
    text = said.strip()
    start = f'unable to start container process: exec: "{program}": '
    if re.search(r"executable file (.* )?not found in \$PATH", text) and "/" in program:
        return f"{start}stat {program}: no such file or directory", 127
    if re.search(r"executable file (.* )?not found in \$PATH", text):
        return f"{start}executable file not found in $PATH", 127
    about_program = re.search(r"\bexec(utable)?\b", text) is not None
    if about_program and re.search("no such file or directory|not found", text, re.IGNORECASE):
        return f"{start}stat {program}: no such file or directory", 127
    # crun says "Operation not permitted" of a directory.
    if about_program and re.search("permission denied|open executable: operation not permitted", text, re.IGNORECASE):
        return f"{start}permission denied", 126
    if about_program and re.search("is a directory", text, re.IGNORECASE):
        return f"{start}is a directory", 126
    return text or "the runtime gave no reason", 128
