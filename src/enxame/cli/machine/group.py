"""The noun ``machine`` with flags of its own (``machine -s DIR ls``), and what its verbs share."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from enxame.cli.command import Group, split_command
from enxame.cli.errors import CliError
from enxame.cli.flags import parse_flags, switch, text
from enxame.cli.session import Session

if TYPE_CHECKING:
    from enxame.machine.hosts import Machines

T = TypeVar("T")

#: Of ``machine ls`` and the like: questions to machines at the same time.
_AT_ONCE: Final = 16

_FLAGS: Final = (
    text("s,storage-path", "Directory of the machines (MACHINE_STORAGE_PATH; default ~/.enxame/machine)"),
    text("tls-ca-cert", "CA to verify remotes against (MACHINE_TLS_CA_CERT)"),
    text("tls-ca-key", "Private key to generate certificates (MACHINE_TLS_CA_KEY)"),
    text("tls-client-cert", "Client cert to use for TLS (MACHINE_TLS_CLIENT_CERT)"),
    text("tls-client-key", "Private key used in client TLS auth (MACHINE_TLS_CLIENT_KEY)"),
    switch("native-ssh", "Accepted for compatibility: the system's ssh is used", hidden=True),
    text("github-api-token", "Accepted for compatibility", hidden=True),
    text("bugsnag-api-token", "Accepted for compatibility", hidden=True),
)
_lock = threading.Lock()


class MachineGroup(Group):
    """Reads the noun's flags into the environment, where docker-machine has them too."""

    def __init__(self, name: str, summary: str, verbs: Mapping[str, str], aliases: Mapping[str, str]) -> None:
        super().__init__(name, summary, verbs, aliases)
        self._help = self.params[0]
        self.params = [*self.params, *_FLAGS]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the flags; what is left are positional words."""
        options = [param for param in self.params if isinstance(param, click.Option)]
        values, rest = parse_flags(options, args, ctx, interspersed=False)
        if "help" in values and not ctx.resilient_parsing:
            click.echo(self.get_help(ctx))
            ctx.exit()
        for option in _FLAGS:
            key = option.name or ""
            if not option.is_flag and key in values:
                os.environ[f"MACHINE_{key.upper()}"] = str(values[key])
        split_command(ctx, rest)
        return rest


def machines(cli: Session) -> "Machines":
    """The store that flags and environment name. Progress goes to stderr, a line at a time."""
    from enxame.machine.hosts import Machines
    from enxame.machine.record import AuthOptions
    from enxame.machine.store import MachineStore, default_path

    store = MachineStore(default_path())
    certs = store.certs

    def path(variable: str, name: str) -> str:
        return str(Path(os.environ.get(variable) or certs / name).absolute())

    auth = AuthOptions(
        cert_dir=str(certs),
        ca_cert_path=path("MACHINE_TLS_CA_CERT", "ca.pem"),
        ca_private_key_path=path("MACHINE_TLS_CA_KEY", "ca-key.pem"),
        client_cert_path=path("MACHINE_TLS_CLIENT_CERT", "cert.pem"),
        client_key_path=path("MACHINE_TLS_CLIENT_KEY", "key.pem"),
    )

    def say(line: str) -> None:
        with _lock:
            cli.warn(line)

    return Machines(store, auth, say)


def each(cli: Session, names: Sequence[str], verb: Callable[[str], None]) -> None:
    """Does something to several machines at the same time; complains for each that failed."""
    from enxame.machine.errors import MachineError

    def guarded(name: str) -> MachineError | OSError | None:
        try:
            verb(name)
        except (MachineError, OSError) as problem:
            return problem
        return None

    results = parallel(guarded, names)
    for problem in results:
        if problem is not None:
            cli.complain(str(problem))


def parallel(function: Callable[[str], T], items: Iterable[str]) -> list[T]:
    """The results in order; calls run at the same time."""
    known = list(items)
    if len(known) <= 1:
        return [function(item) for item in known]
    with ThreadPoolExecutor(min(len(known), _AT_ONCE), "machine") as pool:
        return list(pool.map(function, known))


def chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """What is named; without a name the machine ``default``, as docker-machine does."""
    if names:
        return list(dict.fromkeys(names))
    if "default" in known:
        return ["default"]
    raise CliError('Error: No machine name(s) specified and no "default" machine exists')


def one(names: Sequence[str], known: Sequence[str]) -> str:
    """The one that is named, or ``default``."""
    return chosen(names, known)[0]
