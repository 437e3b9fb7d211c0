"""The ways a command can end badly, each with its text for stderr and its exit code.

CliError
├── DaemonError         the daemon answered with an error status
├── Unreachable         nobody answered
├── UsageError          wrong flags or arguments
├── BadTemplate         a --format that does not parse or does not fit the data
└── Exit                a silent end with a code of its own (a container's exit code)
"""

from typing import Final

#: Exit codes of the docker CLI: a usage error or an error of ``run`` before the container's command began.
USAGE_EXIT: Final = 125
CANNOT_INVOKE_EXIT: Final = 126
NOT_FOUND_EXIT: Final = 127


class CliError(Exception):
    """An error for the user: ``str()`` is the text for stderr."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class DaemonError(CliError):
    """The daemon refused: ``status`` is the HTTP status, ``detail`` the daemon's own words."""

    def __init__(self, status: int, detail: str, code: int = 1) -> None:
        super().__init__(f"Error response from daemon: {detail}", code)
        self.status = status
        self.detail = detail


class Unreachable(CliError):
    """No connection to the daemon could be made, or it broke before an answer came."""


class UsageError(CliError):
    """Wrong flags or arguments; ``command_path`` names the command whose help is pointed at."""

    def __init__(self, message: str, command_path: str = "", code: int = USAGE_EXIT, tail: str = "") -> None:
        super().__init__(message, code)
        self.command_path = command_path
        self.tail = tail


class BadTemplate(CliError):
    """A ``--format`` template that cannot be parsed, or evaluated over the data."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(f"template parsing error: {message}", code)


class Exit(CliError):
    """Ends the command with ``code`` and prints nothing."""

    def __init__(self, code: int) -> None:
        super().__init__("", code)
