"""What every command works with: the client, the terminal's streams, the registry credentials."""

import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from enxame.cli.endpoint import DEFAULT_HOST, Endpoint, TlsFiles, host_from_environment, parse_host
from enxame.cli.errors import CliError

if TYPE_CHECKING:
    from enxame.cli.client import Client


class Session:
    """One run of the command."""

    def __init__(self, host: str = "", tls: TlsFiles | None = None, *, context: str = "", debug: bool = False) -> None:
        self._host = host
        self._context = context
        self._tls = tls
        self._client: "Client | None" = None  # noqa: UP037 - not imported at run time
        self.debug = debug
        self.failed = False

    @property
    def client(self) -> "Client":
        """Connected on first use."""
        if self._client is None:
            # Only now: what needs no daemon (help) starts without an HTTP client.
            from enxame.cli.client import Client

            self._client = Client(self.endpoint)
        return self._client

    @property
    def endpoint(self) -> Endpoint:
        """The daemon's address: what the command line names, then the environment, then the current context."""
        host = self._host or ("" if self._context else host_from_environment())
        if host:
            return parse_host(host, self._tls)
        from enxame.cli.context_store import DEFAULT, ContextStore

        store = ContextStore()
        name = self._context or store.current()
        if name == DEFAULT:
            return parse_host(DEFAULT_HOST, self._tls)
        try:
            return store.load(name).endpoint()
        except CliError as problem:
            raise CliError(f"unable to resolve docker endpoint: {problem.message}") from None

    @property
    def out(self) -> TextIO:
        """Results."""
        return sys.stdout

    @property
    def err(self) -> TextIO:
        """Everything else."""
        return sys.stderr

    def say(self, text: str) -> None:
        """One line of result."""
        sys.stdout.write(f"{text}\n")

    def warn(self, text: str) -> None:
        """One line on stderr."""
        sys.stdout.flush()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def complain(self, text: str) -> None:
        """A line on stderr for one of several objects; the command goes on and ends with code 1."""
        self.failed = True
        self.warn(text)

    def out_is_terminal(self) -> bool:
        """True when results go to a terminal."""
        return sys.stdout.isatty()

    def registry_auth(self, image: str) -> str:
        """The X-Registry-Auth value for an image's registry, from docker's config file; empty without credentials."""
        from enxame.cli.registry import encoded_auth

        return encoded_auth(image)

    def confirm(self, question: str) -> bool:
        """Asks on stdout; anything but y/Y is no."""
        sys.stdout.write(f"{question} [y/N] ")
        sys.stdout.flush()
        answer = sys.stdin.readline()
        return answer.strip().lower() == "y"

    def read_secret(self, prompt: str) -> str:
        """A line without echo; from a pipe as it comes."""
        if not sys.stdin.isatty():
            return sys.stdin.readline().strip()
        import getpass

        return getpass.getpass(prompt).strip()

    def close(self) -> None:
        """Closes the connection."""
        if self._client is not None:
            self._client.close()


def colours(stream: Any) -> bool:
    """True when colours and cursor movement may be used on ``stream``."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
