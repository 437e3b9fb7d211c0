"""Named daemons, kept where docker keeps its contexts (``$DOCKER_CONFIG/contexts``): what one makes the other knows.

Which of them is the current one is remembered apart (``~/.enxame/current-context``): to switch here does not make the
docker command talk to another daemon, nor the other way round.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from enxame.cli.endpoint import DEFAULT_HOST, Endpoint, TlsFiles, parse_host
from enxame.cli.errors import CliError

DEFAULT: Final = "default"
#: Environment variables that name a daemon, and those that name a context; the former go first.
HOST_VARIABLES: Final = ("ENXAME_HOST", "DOCKER_HOST")
CONTEXT_VARIABLES: Final = ("ENXAME_CONTEXT", "DOCKER_CONTEXT")
TLS_NAMES: Final = ("ca.pem", "cert.pem", "key.pem")
_NAME: Final = r"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"


@dataclass(frozen=True)
class Context:
    """A daemon. ``tls``: its PEM files by name (of :data:`TLS_NAMES`), as far as it has them."""

    name: str
    host: str
    description: str = ""
    skip_verify: bool = False
    tls: Mapping[str, Path] = field(default_factory=dict)

    def endpoint(self) -> Endpoint:
        """Where to connect. Raises CliError on a host that cannot be."""
        files = None
        if self.tls:
            ca, cert, key = (str(self.tls.get(name, "")) for name in TLS_NAMES)
            files = TlsFiles(ca, cert, key, verify=not self.skip_verify)
        return parse_host(self.host, files)


class ContextStore:
    """All contexts of a user."""

    def __init__(self) -> None:
        docker = Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"))
        own = Path(os.environ.get("ENXAME_CONFIG") or os.path.expanduser("~/.enxame"))
        self._path = docker / "contexts"
        self._current = own / "current-context"

    def names(self) -> list[str]:
        """Sorted, with the default one first."""
        found = set()
        for file in (self._path / "meta").glob("*/meta.json"):
            name = _read_json(file).get("Name")
            if isinstance(name, str):
                found.add(name)
        return [DEFAULT, *sorted(found - {DEFAULT})]

    def load(self, name: str) -> Context:
        """Raises CliError when there is none of that name."""
        if name == DEFAULT:
            host = next((os.environ[v] for v in HOST_VARIABLES if os.environ.get(v)), DEFAULT_HOST)
            return Context(DEFAULT, host, "The daemon of this machine, or the one that the environment names")
        file = self.meta_path(name) / "meta.json"
        if not file.exists():
            raise CliError(f'context "{name}": context not found: open {file}: no such file or directory')
        raw = _read_json(file)
        endpoint = (raw.get("Endpoints") or {}).get("docker") or {}
        folder = self.tls_path(name) / "docker"
        return Context(
            name,
            str(endpoint.get("Host") or DEFAULT_HOST),
            str((raw.get("Metadata") or {}).get("Description") or ""),
            bool(endpoint.get("SkipTLSVerify")),
            {name: folder / name for name in TLS_NAMES if (folder / name).exists()},
        )

    def save(self, context: Context) -> None:
        """Writes a context, with copies of its PEM files. Raises OSError."""
        tls = self.tls_path(context.name) / "docker"
        copies = {name: path.read_bytes() for name, path in context.tls.items()}
        shutil.rmtree(tls, ignore_errors=True)
        for name, data in copies.items():
            _write(tls / name, data)
        described = {"Description": context.description} if context.description else {}
        endpoint = {"Host": context.host, "SkipTLSVerify": context.skip_verify}
        raw = {"Name": context.name, "Metadata": described, "Endpoints": {"docker": endpoint}}
        _write(self.meta_path(context.name) / "meta.json", json.dumps(raw, separators=(",", ":")).encode())

    def exists(self, name: str) -> bool:
        """Whether there is one of that name."""
        return name == DEFAULT or (self.meta_path(name) / "meta.json").exists()

    def remove(self, name: str) -> None:
        """Forgets a context; the default one is current when this was. Raises OSError."""
        shutil.rmtree(self.meta_path(name), ignore_errors=True)
        shutil.rmtree(self.tls_path(name), ignore_errors=True)
        if self.chosen() == name:
            self.use(DEFAULT)

    def use(self, name: str) -> None:
        """Makes it the current one. Raises OSError."""
        if name == DEFAULT:
            self._current.unlink(missing_ok=True)
        else:
            _write(self._current, f"{name}\n".encode())

    def chosen(self) -> str:
        """The name that :meth:`use` was told last."""
        try:
            return self._current.read_text(encoding="utf-8").strip() or DEFAULT
        except (OSError, UnicodeDecodeError):
            return DEFAULT

    def current(self) -> str:
        """The name that counts now: what the environment says goes first."""
        if any(os.environ.get(variable) for variable in HOST_VARIABLES):
            return DEFAULT
        return next((os.environ[v] for v in CONTEXT_VARIABLES if os.environ.get(v)), "") or self.chosen()

    def meta_path(self, name: str) -> Path:
        """The directory of what is known of a context."""
        return self._path / "meta" / _digest(name)

    def tls_path(self, name: str) -> Path:
        """The directory of its keys."""
        return self._path / "tls" / _digest(name)


def check_name(name: str) -> None:
    """Raises CliError, in docker's words, on a name that no context can have."""
    if name == DEFAULT:
        raise CliError('"default" is a reserved context name')
    if not re.fullmatch(_NAME, name):
        raise CliError(f'context name "{name}" is invalid, names are validated against regexp "{_NAME}"')


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as problem:
        raise CliError(f"cannot read {file}: {problem}") from None
    return found if isinstance(found, dict) else {}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
