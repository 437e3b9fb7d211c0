import threading
from pathlib import Path

import pytest

from enxame.machine.errors import MachineError, MachineExists, NoSuchMachine
from enxame.machine.record import Record
from enxame.machine.store import MachineStore, default_path


@pytest.fixture
def store(tmp_path: Path) -> MachineStore:
    return MachineStore(tmp_path / "store")


def saved(store: MachineStore, name: str) -> Record:
    store.reserve(name)
    record = Record(name=name, driver_name="local", driver={"IPAddress": "10.0.0.1"})
    store.save(record)
    return record


def test_a_record_is_read_back_as_it_was_saved(store: MachineStore) -> None:
    record = saved(store, "vm1")
    assert store.load("vm1") == record
    assert store.names() == ["vm1"]


def test_keys_are_docker_machines(store: MachineStore) -> None:
    saved(store, "vm1")
    text = (store.directory("vm1") / "config.json").read_text()
    for key in (
        "ConfigVersion",
        "DriverName",
        "HostOptions",
        "EngineOptions",
        "AuthOptions",
        "ServerCertSANs",
        "InstallURL",
    ):
        assert f'"{key}"' in text


def test_nobody_else_reads_it(store: MachineStore) -> None:
    saved(store, "vm1")
    assert (store.directory("vm1") / "config.json").stat().st_mode & 0o777 == 0o600
    assert store.directory("vm1").stat().st_mode & 0o077 == 0


def test_names_are_taken_once(store: MachineStore) -> None:
    saved(store, "vm1")
    with pytest.raises(MachineExists, match='Docker machine "vm1" already exists'):
        store.reserve("vm1")


@pytest.mark.parametrize("name", ["", "a b", "../up", "-x", "a/b", "x" * 64, "ünï"])
def test_what_cannot_be_a_host_name_is_refused(store: MachineStore, name: str) -> None:
    with pytest.raises(MachineError, match="Invalid hostname specified"):
        store.reserve(name)


def test_unknown_and_broken_machines_are_told_apart(store: MachineStore) -> None:
    with pytest.raises(NoSuchMachine, match='Docker machine "vm9" does not exist'):
        store.load("vm9")
    saved(store, "vm1")
    (store.directory("vm1") / "config.json").write_text("{")
    with pytest.raises(MachineError, match="Error loading machine vm1"):
        store.load("vm1")


def test_a_lock_excludes_others(store: MachineStore) -> None:
    inside: list[str] = []
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with store.lock("x"):
            entered.set()
            leave.wait(10)
            inside.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    threading.Timer(0.05, leave.set).start()
    with store.lock("x"):
        inside.append("second")
    thread.join(10)
    assert inside == ["first", "second"]


def test_the_environment_names_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENXAME_MACHINE_STORAGE", "/second")
    assert default_path() == Path("/second")
    monkeypatch.setenv("MACHINE_STORAGE_PATH", "/first")
    assert default_path() == Path("/first")
    monkeypatch.delenv("MACHINE_STORAGE_PATH")
    monkeypatch.delenv("ENXAME_MACHINE_STORAGE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".enxame/machine"
