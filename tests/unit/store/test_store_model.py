"""Random transactions, shared commits, refused commits and crashes against a plain dict."""

import asyncio
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from enxame.errors import EnxameError
from enxame.model.service import Service, ServiceSpec
from enxame.model.task import Task, TaskState
from enxame.store.backend import CommitFailed
from enxame.store.interface import Action
from enxame.store.kinds import KINDS
from enxame.store.memory import MemoryBackend
from enxame.store.sqlite import SqliteBackend
from enxame.store.store import Store
from enxame.store.watch import WatchLagged

IDS = st.sampled_from(["a", "b", "c", "d"])
NAMES = st.sampled_from(["one", "Two", "two", "three"])
STATES = st.sampled_from([TaskState.NEW, TaskState.RUNNING])

OPERATIONS = st.one_of(
    st.tuples(st.just("create service"), IDS, NAMES),
    st.tuples(st.just("rename service"), IDS, NAMES),
    st.tuples(st.just("delete service"), IDS, st.none()),
    st.tuples(st.just("create task"), IDS, STATES),
    st.tuples(st.just("change task"), IDS, STATES),
    st.tuples(st.just("delete task"), IDS, st.none()),
    st.tuples(st.just("stale service"), IDS, st.none()),
    st.tuples(st.just("raise"), st.just(""), st.none()),
)
TRANSACTIONS = st.lists(st.lists(OPERATIONS, min_size=1, max_size=5), min_size=1, max_size=4)


class Refused(Exception):
    """What the model says of an operation that must not pass."""


def apply_to_store(tx, operation):
    what, key, value = operation
    if what == "create service":
        tx.create(Service(id=key, spec=ServiceSpec(name=value)))
    elif what == "rename service":
        tx.update(replace(tx.get(Service, key) or Service(id=key), spec=ServiceSpec(name=value)))
    elif what == "delete service":
        tx.delete(Service, key)
    elif what == "create task":
        tx.create(Task(id=key, desired_state=value, service_id="a"))
    elif what == "change task":
        tx.update(replace(tx.get(Task, key) or Task(id=key), desired_state=value))
    elif what == "delete task":
        tx.delete(Task, key)
    elif what == "stale service":
        tx.update(Service(id=key, version=type(Service().version)(index=10**9), spec=ServiceSpec(name="stale")))
    else:
        raise ValueError("the caller's own")


def apply_to_model(model, operation):
    what, key, value = operation
    verb, _, noun = what.partition(" ")
    if verb in ("raise", "stale"):
        raise Refused
    there = (noun, key) in model
    if there == (verb == "create"):
        raise Refused
    if verb == "delete":
        del model[noun, key]
        return
    if noun == "service":
        taken = {name.lower() for (kind, other), name in model.items() if kind == "service" and other != key}
        if value.lower() in taken:
            raise Refused
    model[noun, key] = value


class FailingBackend:
    """Passes everything on, and refuses commits when told so."""

    def __init__(self, backend):
        self.backend = backend
        self.failing = False
        self.commit_bytes = backend.commit_bytes
        self.load, self.watch, self.close = backend.load, backend.watch, backend.close

    async def commit(self, mutations):
        if self.failing:
            raise CommitFailed("refused")
        return await self.backend.commit(mutations)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.model = {}
        self.mirror = {}

    @initialize(durable=st.booleans())
    def begin(self, durable):
        self.memory = None if durable else MemoryBackend()
        self.open()
        self.watch = self.store.watch()

    def open(self):
        inner = self.memory or SqliteBackend(Path(self.directory.name) / "state.db")
        self.backend = FailingBackend(inner)
        self.store = Store(self.backend, history_events=30)
        self.loop.run_until_complete(self.store.start())

    @rule(transactions=TRANSACTIONS, failing=st.booleans())
    def commit(self, transactions, failing):
        expected, passes = dict(self.model), []
        for transaction in transactions:
            attempt = dict(expected)
            try:
                for operation in transaction:
                    apply_to_model(attempt, operation)
            except Refused:
                passes.append(False)
            else:
                passes.append(True)
                expected = attempt
        self.backend.failing = failing

        async def together():
            return await asyncio.gather(
                *(
                    self.store.update(lambda tx, ops=ops: [apply_to_store(tx, op) for op in ops])
                    for ops in transactions
                ),
                return_exceptions=True,
            )

        revision = self.store.revision
        results = self.loop.run_until_complete(together())
        self.backend.failing = False
        for passed, result in zip(passes, results, strict=True):
            if not passed:
                assert isinstance(result, EnxameError | ValueError)
                assert not isinstance(result, CommitFailed)
            else:
                assert not isinstance(result, Exception) or (failing and isinstance(result, CommitFailed))
        if failing and self.store.revision == revision and any(isinstance(result, CommitFailed) for result in results):
            return
        self.model = expected

    @rule()
    def crash(self):
        """The process dies and comes back: tables from the backend, watches gone."""
        before = {obj.id: obj for kind in KINDS for obj in self.store.view.all(kind)}
        revision = self.store.revision
        self.loop.run_until_complete(self.store.close())
        self.open()
        assert self.store.revision == revision
        assert {obj.id: obj for kind in KINDS for obj in self.store.view.all(kind)} == before
        self.resync()
        self.watch = self.store.watch()

    @rule()
    def look(self):
        """A watcher that looks now and then keeps a copy, starting again when it fell behind."""
        try:
            events = self.watch.pending()
        except WatchLagged:
            self.resync()
            return
        for event in events:
            key = (type(event.object), event.object.id)
            assert self.mirror.get(key) == event.old or event.action is Action.CREATE
            if event.action is Action.DELETE:
                del self.mirror[key]
            else:
                assert (key in self.mirror) == (event.action is Action.UPDATE)
                assert event.object.version.index == event.version
                self.mirror[key] = event.object
        assert self.mirror == self.stored()

    def resync(self):
        self.mirror = self.stored()

    def stored(self):
        return {(kind, obj.id): obj for kind in KINDS for obj in self.store.view.all(kind)}

    @invariant()
    def the_store_holds_what_the_model_holds(self):
        if not hasattr(self, "store"):
            return
        view = self.store.view
        held = {("service", s.id): s.spec.name for s in view.all(Service)}
        held |= {("task", t.id): t.desired_state for t in view.all(Task)}
        assert held == self.model

    @invariant()
    def the_indexes_find_what_a_full_look_finds(self):
        if not hasattr(self, "store"):
            return
        view = self.store.view
        for name in ("one", "two", "three"):
            slow = {s.id for s in view.all(Service) if s.spec.name.lower() == name}
            assert {s.id for s in view.find(Service, "name", name)} == slow
        for state in (TaskState.NEW, TaskState.RUNNING):
            slow = {t.id for t in view.all(Task) if t.desired_state is state}
            assert {t.id for t in view.find(Task, "desired_state", state)} == slow

    def teardown(self):
        if hasattr(self, "store"):
            self.loop.run_until_complete(self.store.close())
        self.loop.close()
        self.directory.cleanup()


TestStoreModel = StoreMachine.TestCase
TestStoreModel.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
