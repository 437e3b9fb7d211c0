"""How work on machines ends badly; ``str()`` is the text for the user."""

from typing import Final

#: Exit code of a failed check before a machine is made, as docker-machine's.
PRE_CREATE_EXIT: Final = 3


class MachineError(Exception):
    """Something about a machine cannot be done. ``code`` is the command's exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class PreCreateError(MachineError):
    """A driver's check found that it could not make the machine; nothing was made."""

    def __init__(self, problem: str) -> None:
        super().__init__(f'Error with pre-create check: "{problem}"', PRE_CREATE_EXIT)


class NoSuchMachine(MachineError):
    """There is no machine of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f'Docker machine "{name}" does not exist. Use "enxame machine ls" to list machines. '
            'Use "enxame machine create" to add a new one.'
        )


class MachineExists(MachineError):
    """The name is taken."""

    def __init__(self, name: str) -> None:
        super().__init__(f'Docker machine "{name}" already exists')


class NotSupported(MachineError):
    """The driver has no such verb."""
