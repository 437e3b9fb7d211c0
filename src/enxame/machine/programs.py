"""Runs other programs of this host to their end."""

import subprocess
from collections.abc import Sequence

from enxame.machine.errors import MachineError


def run(argv: Sequence[str], *, stdin: str | bytes | None = None, timeout: float = 30.0) -> str:
    """Its standard output. Raises MachineError with what it said when it is missing, fails or takes too long."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    source = {"stdin": subprocess.DEVNULL} if data is None else {}
    try:
        done = subprocess.run(argv, input=data, capture_output=True, timeout=timeout, check=False, **source)  # type: ignore[call-overload]
    except FileNotFoundError:
        raise MachineError(f"the program `{argv[0]}` is missing") from None
    except subprocess.TimeoutExpired:
        raise MachineError(f"{' '.join(argv)}: no end within {timeout:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise MachineError(f"{' '.join(argv)}: {said or f'exit code {done.returncode}'}")
    return str(done.stdout.decode(errors="replace"))
