"""Which nodes are alive, judged by their heartbeats (pure).

Times are monotonic seconds of the manager. It forgives: silence counts only while the manager itself could listen, a
node gets the period it was told, and when much of the swarm falls silent at once that is first held to be our fault.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from enxame.model.cluster import DEFAULT_HEARTBEAT, NANOSECONDS

#: A node is down after so many periods without a heartbeat.
GRACE: Final = 3
#: Heartbeats a second that all nodes together may send.
BEATS_PER_SECOND: Final = 500
SHORTEST_PERIOD: Final = 1.0
#: For nodes to come back after the manager itself was away: at least their longest back-off, and a try that hangs;
#: else so many periods, as all of them come at once.
RETURN_GRACE: Final = 15.0
RETURN_PERIODS: Final = 2 * GRACE
#: The same where another manager led until a moment ago: the time in which nodes notice and find the new one; and how
#: many of them a second a leader takes up.
TAKEOVER_GRACE: Final = 6.0
RETURNS_PER_SECOND: Final = 100

#: The longest time that a node may ask to be excused for: seconds.
LONGEST_EXCUSE: Final = 60.0

#: A node that used up this part of its grace is suspected: it does not say so yet, but others may have shown more.
SUSPECTED: Final = 0.6
#: The brake holds when more than half of the nodes, and at least so many, are missing within the window (seconds).
BRAKE_NODES: Final = 3
BRAKE_WINDOW: Final = 15.0
BRAKE_LIMIT: Final = 300.0

#: A node that was down so often within the window (seconds) must prove itself for a while before it gets work again.
FLAPS: Final = 3
FLAP_WINDOW: Final = 600.0
FIRST_PROBATION: Final = 15.0
LONGEST_PROBATION: Final = 240.0


class Health(Enum):
    """What the book says of a node."""

    #: Not heard of since the manager came up.
    UNKNOWN = "unknown"
    UP = "up"
    #: Silent with so many others that nothing is done about it yet.
    HELD = "held"
    DOWN = "down"
    #: Back, but not trusted yet: it came and went too often.
    PROBATION = "probation"


@dataclass(slots=True)
class _Entry:
    health: Health
    heard: float
    period: float
    grace: float
    down_at: float = 0.0
    trusted_at: float = 0.0
    #: Until when it is not given up, although it is silent: others that were silent with it come back.
    spared_until: float = 0.0
    #: It said that it will be silent for a while.
    excused: bool = False
    #: What it was before it was judged to be down, while nobody was told yet.
    before: Health | None = None
    downs: deque[float] = field(default_factory=deque)


def heartbeat_period(nodes: int, configured: int) -> float:
    """Seconds between a node's heartbeats. ``configured`` is the swarm's setting in nanoseconds: Swarm's default means
    as often as is cheap.
    """
    if configured not in (0, DEFAULT_HEARTBEAT):
        return configured / NANOSECONDS
    return max(SHORTEST_PERIOD, nodes / BEATS_PER_SECOND)


class HeartbeatBook:
    """``others`` are nodes that are alive without heartbeats: the manager itself."""

    def __init__(self, others: int = 1) -> None:
        self._others = others
        self._entries: dict[str, _Entry] = {}
        self._due: float | None = None
        self._braking_since: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def health(self, node_id: str) -> Health | None:
        """What is held of a node; None when it is not in the book."""
        entry = self._entries.get(node_id)
        return entry.health if entry is not None else None

    def expect(self, node_id: str, now: float, period: float, grace: float | None = None) -> None:
        """A node that the swarm has, and that has not reported to this manager yet; it has ``grace`` seconds, unless
        the time for nodes to return after a manager was away.
        """
        self._entries[node_id] = _Entry(Health.UNKNOWN, now, period, _return_grace(period) if grace is None else grace)

    def note_down(self, node_id: str, now: float) -> None:
        """A node that is known to be down: it left, or was so before this manager came up."""
        entry = self._entries.setdefault(node_id, _Entry(Health.DOWN, now, 0.0, 0.0))
        entry.health, entry.down_at, entry.before = Health.DOWN, now - BRAKE_WINDOW, None

    def register(self, node_id: str, now: float, period: float) -> Health:
        """A node reported for duty and was told the period. UP, or PROBATION when it flaps."""
        entry = self._entries.setdefault(node_id, _Entry(Health.UP, now, period, 0.0))
        entry.heard, entry.period, entry.grace, entry.excused = now, period, GRACE * period, False
        entry.before = None
        if entry.health is Health.PROBATION:
            return entry.health
        entry.health = Health.UP
        while entry.downs and entry.downs[0] <= now - FLAP_WINDOW:
            entry.downs.popleft()
        if len(entry.downs) >= FLAPS:
            entry.health = Health.PROBATION
            entry.trusted_at = now + min(FIRST_PROBATION * 2 ** (len(entry.downs) - FLAPS), LONGEST_PROBATION)
        return entry.health

    def turned_away(self, node_id: str, now: float) -> None:
        """A node that reported for duty could not be taken up: it was heard of, and comes again after its back-off."""
        entry = self._entries.get(node_id)
        if entry is not None and entry.health is not Health.DOWN:
            entry.heard, entry.grace = now, _return_grace(entry.period)

    def beat(self, node_id: str, now: float, period: float) -> bool:
        """A heartbeat came, and was answered with the period. False: the node must report for duty first."""
        entry = self._entries.get(node_id)
        if entry is None or entry.health in (Health.DOWN, Health.UNKNOWN):
            return False
        entry.heard, entry.period = now, period
        if not entry.excused:
            entry.grace = GRACE * period
        return True

    def excuse(self, node_id: str, now: float, seconds: float) -> bool:
        """A node said that it restarts and will be back within so many seconds: until then its silence means nothing.
        False: it is not one that is waited for.
        """
        entry = self._entries.get(node_id)
        if entry is None or entry.health in (Health.DOWN, Health.UNKNOWN):
            return False
        entry.heard, entry.excused = now, True
        entry.grace = max(entry.grace, min(seconds, LONGEST_EXCUSE))
        return True

    def forget(self, node_id: str) -> None:
        """The node was removed."""
        self._entries.pop(node_id, None)

    def said(self, node_ids: Iterable[str]) -> None:
        """The verdicts on these nodes are written down: they stand."""
        for node_id in node_ids:
            entry = self._entries.get(node_id)
            if entry is not None:
                entry.before = None

    def tick(self, now: float, interval: float) -> list[tuple[str, Health]]:
        """Judge; to be called every ``interval`` seconds. The nodes that changed, with their new health."""
        self._forgive(now)
        self._due = now + interval
        changed = [
            (node_id, Health.UP)
            for node_id, entry in self._entries.items()
            if (entry.health is Health.HELD and now - entry.heard < entry.grace)
            or (entry.health is Health.PROBATION and now >= entry.trusted_at and now - entry.heard < entry.grace)
        ]
        for node_id, health in changed:
            self._entries[node_id].health = health
        silent = [
            (node_id, entry)
            for node_id, entry in self._entries.items()
            if entry.health is not Health.DOWN and now - entry.heard >= entry.grace
        ]
        braked = self._braking_since
        verdict = Health.HELD if self._brakes(now) else Health.DOWN
        if braked is not None and verdict is Health.DOWN and now - braked < BRAKE_LIMIT:
            self._spare(now)
        for node_id, entry in silent:
            if entry.health is Health.HELD and now < entry.spared_until:
                continue
            if entry.health is verdict or (entry.health is Health.PROBATION and verdict is Health.HELD):
                continue
            if verdict is Health.DOWN:
                entry.down_at, entry.before = now, entry.health
                entry.downs.append(now)
            entry.health = verdict
            changed.append((node_id, verdict))
        return changed

    def _forgive(self, now: float) -> None:
        """The manager comes late: for so long it could hear nobody."""
        if self._due is None:
            return
        late = now - self._due
        if late > SHORTEST_PERIOD:
            # Long enough for nodes to have given up on it: they need the time to come back.
            for entry in self._entries.values():
                if entry.before is not None:
                    # What could not be said before is not said now: it may be back since.
                    entry.health, entry.before = entry.before, None
                    entry.downs.pop()
                if entry.health is Health.HELD:
                    entry.spared_until = now + _return_grace(entry.period)
                elif entry.health is not Health.DOWN:
                    entry.grace = max(_return_grace(entry.period), entry.grace if entry.excused else 0.0)
                    entry.heard = now
        elif late > 0:
            for entry in self._entries.values():
                entry.heard = min(now, entry.heard + late)

    def _spare(self, now: float) -> None:
        """Enough nodes are back: what kept them away is over, and the others may be waiting for their next try."""
        for entry in self._entries.values():
            if entry.health is Health.HELD:
                entry.spared_until = now + _return_grace(entry.period)

    def _brakes(self, now: float) -> bool:
        missing = present = 0
        for entry in self._entries.values():
            if entry.health is Health.DOWN:
                missing += now - entry.down_at < BRAKE_WINDOW
            elif now - entry.heard >= (1.0 if entry.excused else SUSPECTED) * entry.grace:
                missing += 1
            else:
                present += 1
        if missing < BRAKE_NODES or missing <= present + self._others:
            self._braking_since = None
            return False
        if self._braking_since is None:
            self._braking_since = now
        return now - self._braking_since < BRAKE_LIMIT


def takeover_grace(nodes: int, period: float) -> float:
    """How long nodes have to come to a new leader that took over at once, in seconds: none of them has backed off by
    then, but all of them come together.
    """
    return min(max(TAKEOVER_GRACE, 2.0 * period) + nodes / RETURNS_PER_SECOND, _return_grace(period))


def _return_grace(period: float) -> float:
    return max(RETURN_GRACE, RETURN_PERIODS * period)
