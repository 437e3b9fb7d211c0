"""The verbs on machines: what ``enxame machine`` does, over any driver."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from enxame.machine.daemon_client import MachineClient
from enxame.machine.driver import Context, Driver, EnginePlan, State
from enxame.machine.drivers import driver_class
from enxame.machine.errors import MachineError, PreCreateError
from enxame.machine.record import AuthOptions, EngineOptions, HostOptions, Record
from enxame.machine.store import MachineStore

Say = Callable[[str], None]

#: Seconds until a daemon must answer after its (re)start.
_READY_DEADLINE: Final = 60.0
#: Seconds that one call of a daemon may take.
CALL_DEADLINE: Final = 30.0


class Machine:
    """One machine that was made."""

    def __init__(self, record: Record, driver: Driver, directory: Path) -> None:
        self.record = record
        self.driver = driver
        self.directory = directory

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    def client(self, timeout: float = CALL_DEADLINE) -> MachineClient:
        """Of its daemon. Raises MachineError while it does not run."""
        url = self.driver.url()
        if not url:
            raise MachineError(f'Error checking TLS connection: Host "{self.name}" is not running')
        return MachineClient(url, self.directory, timeout=timeout)


class Machines:
    """All machines of a store. ``say`` gets a line of progress at a time (from any thread)."""

    def __init__(self, store: MachineStore, auth: AuthOptions, say: Say) -> None:
        self.store = store
        self.auth = auth
        self.say = say

    # -- making -------------------------------------------------------------------------------------------------------

    def create(
        self, name: str, driver_name: str, flags: Mapping[str, Any], options: EngineOptions, sans: Sequence[str] = ()
    ) -> Machine:
        """Makes a machine and waits until its daemon answers; leaves nothing behind when that fails."""
        cls = driver_class(driver_name)
        known = self.store.exists(name)
        directory = self.store.reserve(name)
        with self.store.lock(f"machine-{name}"):
            if not known:
                self.store.reserve(name)  # another command may have been faster
            context = Context(name, directory, self.store.path)
            driver = cls.from_flags(context, flags)
            self.say("Running pre-create checks...")
            try:
                driver.pre_create_check()
            except MachineError as problem:
                shutil.rmtree(directory, ignore_errors=True)
                raise problem if isinstance(problem, PreCreateError) else PreCreateError(problem.message) from None
            auth = self._auth_options(directory, sans)
            host = HostOptions(engine_options=options, auth_options=auth)
            machine = Machine(Record(name=name, driver_name=driver_name, host_options=host), driver, directory)
            self.say("Creating machine...")
            try:
                self._save(machine)
                driver.create()
                self._save(machine)
                self._provision(machine)
            except BaseException:
                self.say(f"Removing what was made of {name}...")
                with contextlib.suppress(MachineError, OSError):
                    driver.remove()
                self.store.remove(name)
                raise
        return machine

    def _auth_options(self, directory: Path, sans: Sequence[str]) -> AuthOptions:
        given = self.auth
        return AuthOptions(
            cert_dir=given.cert_dir,
            ca_cert_path=given.ca_cert_path,
            ca_private_key_path=given.ca_private_key_path,
            client_cert_path=given.client_cert_path,
            client_key_path=given.client_key_path,
            server_cert_path=str(directory / "server.pem"),
            server_key_path=str(directory / "server-key.pem"),
            server_cert_sans=list(sans),
            store_path=str(directory),
        )

    def _save(self, machine: Machine) -> None:
        machine.record.driver = machine.driver.settings()
        self.store.save(machine.record)

    # -- provisioning -------------------------------------------------------------------------------------------------

    def _provision(self, machine: Machine, *, renew: bool = False) -> None:
        """Certificates, options and the daemon; returns when the daemon answers."""
        self._issue(machine, renew=renew)
        self.say("Provisioning...")
        try:
            machine.driver.provision(self._plan(machine))
        finally:
            self._save(machine)
        self._wait_ready(machine)

    def _plan(self, machine: Machine) -> EnginePlan:
        auth = machine.record.host_options.auth_options
        engine = machine.record.host_options.engine_options
        labels = dict(label.partition("=")[::2] for label in engine.labels)
        return EnginePlan(
            engine,
            machine.directory / "ca.pem",
            Path(auth.server_cert_path),
            Path(auth.server_key_path),
            {"provider": machine.record.driver_name, **labels},
        )

    def _issue(self, machine: Machine, *, renew: bool) -> None:
        from enxame.machine.certificates import Authority

        auth = machine.record.host_options.auth_options
        paths = (auth.ca_cert_path, auth.ca_private_key_path, auth.client_cert_path, auth.client_key_path)
        authority = Authority(*(Path(path) for path in paths))
        with self.store.lock("certificates"):
            authority.ensure()
        for source, name in (
            (authority.ca, "ca.pem"),
            (authority.client, "cert.pem"),
            (authority.client_key, "key.pem"),
        ):
            shutil.copy2(source, machine.directory / name)
        certificate = Path(auth.server_cert_path)
        if renew or not certificate.exists():
            names = [
                machine.name,
                machine.driver.ip(),
                *machine.driver.names(),
                "localhost",
                "127.0.0.1",
                *auth.server_cert_sans,
            ]
            authority.issue_server(certificate, Path(auth.server_key_path), names)

    def _wait_ready(self, machine: Machine) -> None:
        try:
            machine.client().wait_ready(_READY_DEADLINE, machine.driver.daemon_failed)
        except TimeoutError as problem:
            said = machine.driver.daemon_log()
            raise MachineError(
                f'the daemon of machine "{machine.name}" does not answer at {machine.driver.url()}: {problem}'
                + (f"\nThe end of its log:\n{said}" if said else "")
            ) from None

    def provision(self, name: str) -> None:
        """Puts a machine's daemon into the state that its record describes."""
        with self._changing(name) as machine:
            if machine.driver.state() is not State.RUNNING:
                raise MachineError(f'Host "{name}" is not running')
            self._provision(machine)

    def regenerate_certs(self, name: str, *, client: bool) -> None:
        """New certificates for the machine, and for the user as well when ``client``."""
        self.say(f"Regenerating TLS certificates for {name}...")
        with self._changing(name) as machine:
            if client:
                from enxame.machine.certificates import Authority

                auth = machine.record.host_options.auth_options
                paths = (auth.ca_cert_path, auth.ca_private_key_path, auth.client_cert_path, auth.client_key_path)
                with self.store.lock("certificates"):
                    Authority(*(Path(path) for path in paths)).renew_client()
            self._provision(machine, renew=True)

    # -- looking ------------------------------------------------------------------------------------------------------

    def load(self, name: str) -> Machine:
        """Raises NoSuchMachine, MachineError for a record or driver that cannot be loaded."""
        record = self.store.load(name)
        directory = self.store.directory(name)
        context = Context(name, directory, self.store.path)
        return Machine(record, driver_class(record.driver_name).from_record(context, record.driver), directory)

    # -- living -------------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Starts a machine and waits for its daemon."""
        self.say(f'Starting "{name}"...')
        with self._changing(name) as machine:
            if machine.driver.state() is State.RUNNING:
                self.say(f'Machine "{name}" is already running.')
                return
            machine.driver.start()
            self._save(machine)
            self._wait_ready(machine)
            self.say(f'Machine "{name}" was started.')

    def stop(self, name: str) -> None:
        """Stops a machine in order."""
        self._end(name, "Stopping", "stopped", lambda driver: driver.stop())

    def kill(self, name: str) -> None:
        """Stops a machine at once."""
        self._end(name, "Killing", "killed", lambda driver: driver.kill())

    def _end(self, name: str, doing: str, done: str, verb: Callable[[Driver], None]) -> None:
        self.say(f'{doing} "{name}"...')
        with self._changing(name) as machine:
            if machine.driver.state() is State.STOPPED:
                self.say(f'Machine "{name}" is already stopped.')
            else:
                verb(machine.driver)
                self._save(machine)
                self.say(f'Machine "{name}" was {done}.')

    def restart(self, name: str) -> None:
        """Stops and starts a machine; a stopped one is started."""
        self.say(f'Restarting "{name}"...')
        with self._changing(name) as machine:
            if machine.driver.state() is State.RUNNING:
                machine.driver.restart()
            else:
                machine.driver.start()
            self._save(machine)
            self._wait_ready(machine)

    def upgrade(self, name: str) -> None:
        """Brings a machine's daemon to this version."""
        self.say(f'Upgrading "{name}"...')
        with self._changing(name) as machine:
            machine.driver.upgrade(self._plan(machine))
            self._save(machine)
            self._wait_ready(machine)

    def remove(self, name: str, *, force: bool) -> None:
        """Removes a machine; with ``force`` forgets it also when the driver cannot take it back."""
        with self.store.lock(f"machine-{name}"):
            try:
                self.load(name).driver.remove()
            except MachineError as problem:
                if not force:
                    raise MachineError(f'Error removing host "{name}": {problem.message}', problem.code) from None
                self.say(f'Error removing host "{name}": {problem.message}')
            self.store.remove(name)

    @contextlib.contextmanager
    def _changing(self, name: str) -> Iterator[Machine]:
        self.store.load(name)
        with self.store.lock(f"machine-{name}"):
            yield self.load(name)
