"""Load balancing of published service ports: from what is to what should be, as one transaction's text. Pure.

Each port has a chain of its own that picks a backend for a new connection, with a rule for each version of IP that a
backend has; a map of verdicts leads to it. What comes over a version that no backend has is left to whoever listens at
the port. A port without backends is in the set ``unserved``, where connections are refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enxame.network import ruleset
from enxame.network.rtnetlink import Address

#: protocol and published port
PortKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Backend:
    """Where connections may go."""

    ip: Address
    port: int

    @property
    def order(self) -> tuple[int, int, int]:
        """To sort by."""
        return self.ip.version, int(self.ip), self.port


@dataclass(frozen=True, slots=True)
class Published:
    """Who answers a port. ``sticky``: a client's address always gets the same backend while they are the same."""

    backends: tuple[Backend, ...] = ()
    sticky: bool = False


Services = Mapping[PortKey, Published]


def difference(before: Services, after: Services, *, start: int = 0) -> str:
    """The text that leads from ``before`` to ``after``; only ports that differ are touched, empty when none does.

    A port's backends are chosen in turn. ``start`` is any number, of which it depends who is the first: where it is
    another for each machine and each time, clients that ask the machines in turn, or just after changes, do not all get
    the same backend.
    """
    parts = [_remove(key, served=bool(before[key].backends)) for key in before.keys() - after.keys()]
    for key, published in after.items():
        old = before.get(key)
        if old != published:
            parts.append(_set(key, old, published, start))
    return "".join(parts)


def _chain(key: PortKey) -> str:
    return f"{ruleset.TABLE} service-{key[0]}-{key[1]}"


def _place(key: PortKey) -> str:
    return f"{key[0]} . {key[1]}"


def _remove(key: PortKey, *, served: bool) -> str:
    if not served:
        return ruleset.change("delete", "unserved", [_place(key)])
    return ruleset.change("delete", "services", [_place(key)]) + f"delete chain {_chain(key)}\n"


def lost(before: Services, after: Services) -> set[Address]:
    """Who answered some port and does so no more."""
    gone: set[Address] = set()
    for key, old in before.items():
        new = after.get(key)
        if new != old:
            gone.update(item.ip for item in set(old.backends) - set(new.backends if new is not None else ()))
    return gone


def _set(key: PortKey, before: Published | None, after: Published, start: int) -> str:
    old = before.backends if before is not None else None
    if not after.backends:
        if old == ():
            return ""
        text = _remove(key, served=True) if old else ""
        return text + ruleset.change("add", "unserved", [_place(key)])
    rule = "".join(f"add rule {_chain(key)} {rule}\n" for rule in _rules(key[0], after, start))
    if old:
        return f"flush chain {_chain(key)}\n" + rule
    text = "" if old is None else _remove(key, served=False)
    verdict = ruleset.change("add", "services", [f"{_place(key)} : goto service-{key[0]}-{key[1]}"])
    return f"{text}add chain {_chain(key)}\n{rule}{verdict}"


def _rules(protocol: str, published: Published, start: int) -> list[str]:
    of_four = [backend for backend in published.backends if backend.ip.version == 4]
    of_six = [backend for backend in published.backends if backend.ip.version == 6]
    return [
        _rule(protocol, backends, family, start, sticky=published.sticky)
        for family, backends in (("ip", of_four), ("ip6", of_six))
        if backends
    ]


def _rule(protocol: str, backends: Sequence[Backend], family: str, start: int, *, sticky: bool) -> str:
    rule = f"meta nfproto ipv{'4' if family == 'ip' else '6'} meta l4proto {protocol} dnat {family} to"
    if len(backends) == 1:
        address = backends[0].ip if family == "ip" else f"[{backends[0].ip}]"
        return f"{rule} {address}:{backends[0].port}"
    first = 0 if sticky else start % len(backends)
    in_turn = (*backends[first:], *backends[:first])
    choices = ", ".join(f"{index} : {backend.ip} . {backend.port}" for index, backend in enumerate(in_turn))
    choice = f"jhash {family} saddr mod {len(backends)} seed 0x656e78" if sticky else f"numgen inc mod {len(backends)}"
    return f"{rule} {choice} map {{ {choices} }}"
