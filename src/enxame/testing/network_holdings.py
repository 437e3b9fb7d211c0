"""All that networks hold on a machine: in the kernel, in containers' network namespaces, on disk, in the daemon.

Taken before and after, the two must be equal: what is more has leaked, what is less was taken from somebody.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from enxame.testing.cluster import Machine
from enxame.testing.leaks import without_counters
from enxame.testing.namespace import run

#: What is held, by what kind of thing it is.
Held = dict[str, frozenset[str]]

#: Kinds of which only the number counts, and how many more there may be: pools fill by themselves, and links to
#: managers come and go.
POOLED: Final[Mapping[str, int]] = {"descriptors": 40, "threads": 8, "names of namespaces": 4, "ways to services": 16}
#: The chains for services of some size: a few stay when none has that size any more.
_WAY: Final = re.compile(r"table ip6? enxame-vips \{ chain (?:any|same)-")
#: What `ip` shows of a link and changes by itself.
_PASSING: Final = ("ifindex", "stats", "stats64", "flags", "link_index", "txqlen", "operstate", "valid_life_time")


def held(machine: Machine, containers: Sequence[str] = ()) -> Held:
    """What a machine holds now; of ``containers`` (ids), which are to be there all the time, what is inside, too."""
    found: dict[str, frozenset[str]] = {}
    for name, argv in _namespaces(machine, containers):
        found |= {f"{kind} of {name}": frozenset(values) for kind, values in _of_namespace(argv).items()}
    root = machine.exec_root
    found["names of namespaces"] = frozenset(os.listdir(root / "netns"))
    found["files of networks"] = frozenset(str(path) for path in (root / "networks").rglob("*"))
    found["definitions"] = frozenset(os.listdir(machine.data_root / "networks"))
    found["containers"] = frozenset(os.listdir(machine.data_root / "containers"))
    found["mounts"] = frozenset(_mounts(machine))
    found["descriptors"] = frozenset(_links(f"/proc/{machine.pid}/fd"))
    found["threads"] = frozenset(os.listdir(f"/proc/{machine.pid}/task"))
    found["monitors"] = frozenset(map(str, machine.monitor_pids()))
    return found


def differences(before: Held, now: Held) -> dict[str, list[str]]:
    """By kind, what came (``+``) and what went (``-``); empty when nothing leaked and nothing is missing."""
    found: dict[str, list[str]] = {}
    for kind in sorted(before.keys() | now.keys()):
        then, current = before.get(kind, frozenset()), now.get(kind, frozenset())
        room = POOLED.get(kind.partition(" of /")[0])
        if then == current or (room is not None and len(current) <= len(then) + room):
            continue
        found[kind] = [f"+ {each}" for each in sorted(current - then)]
        if room is None:
            found[kind] += [f"- {each}" for each in sorted(then - current)]
    return found


def _namespaces(machine: Machine, containers: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """A name, and the command that runs others inside."""
    yield "the machine", machine.network.host.argv()
    for container in containers:
        state = machine.api.get(f"/containers/{container}/json")
        yield state["Name"], ["nsenter", "-t", str(state["State"]["Pid"]), "-n", "--"]


#: What is asked of a namespace, all in one process: what it is, and the command.
_QUESTIONS: Final = {
    "links": "ip -j -d addr",
    "routes": "ip -j -4 route show table all",
    "routes of IPv6": "ip -j -6 route show table all",
    "routing rules": "ip -j -4 rule",
    "routing rules of IPv6": "ip -j -6 rule",
    "neighbours": "ip -j neigh show nud permanent",
    "proxies": "ip -j neigh show proxy",
    "FDB": "bridge -j fdb show",
    "IPsec": "ip xfrm state; ip xfrm policy",
    "rules": "nft -s list ruleset",
    "listening": "ss -Htuln",
}
_END: Final = "--end--\n"


def _of_namespace(argv: list[str]) -> dict[str, list[str]]:
    script = "".join(f"{command} && echo {_END.strip()} || exit 1\n" for command in _QUESTIONS.values())
    answers = run(*argv, "sh", "-c", script, timeout=60).split(_END)
    shown = dict(zip(_QUESTIONS, answers, strict=False))
    found = {
        kind: [_plain(entry) for entry in json.loads(answer or "[]")]
        for kind, answer in shown.items()
        if " -j " in _QUESTIONS[kind]
    }
    rules = _rules(shown["rules"])
    found["rules"] = [rule for rule in rules if not _WAY.match(rule)]
    found["ways to services"] = [rule for rule in rules if _WAY.match(rule)]
    # What bridges have seen of their own machine's containers ages by itself.
    learnt = '"state": ""}'
    found["FDB"] = [entry for entry in found["FDB"] if not entry.endswith(learnt) or '"dst"' in entry]
    return {**found, "IPsec": shown["IPsec"].splitlines(), "listening": shown["listening"].splitlines()}


def _plain(shown: dict[str, Any]) -> str:
    """Without what passes, and of addresses without the kernel's own link-local ones."""
    kept = {key: value for key, value in shown.items() if key not in _PASSING}
    if "addr_info" in kept:
        kept["addr_info"] = [f"{entry['local']}/{entry['prefixlen']}" for entry in kept["addr_info"]]
    if "linkinfo" in kept:
        kept["linkinfo"] = kept["linkinfo"].get("info_kind")
    return json.dumps(kept, sort_keys=True)


def _rules(ruleset: str) -> list[str]:
    """Every rule and every element with where it is, in any order."""
    found: list[str] = []
    place: list[str] = []
    for line in without_counters(re.sub(r"\belements = \{\s*([^}]*)\}", _one_a_line, ruleset)):
        if line.endswith("{"):
            place.append(line)
        elif line == "}":
            place.pop()
        elif line:
            found.append(" ".join([*place, line]))
    return found


def _one_a_line(elements: re.Match[str]) -> str:
    return "\n".join(f"element {each.strip()}" for each in elements[1].split(","))


def _mounts(machine: Machine) -> Iterator[str]:
    with open(f"/proc/{machine.pid}/mountinfo", encoding="utf-8") as lines:
        for line in lines:
            point = line.split()[4]
            if str(machine.directory) in point and "/netns/" not in point:  # those count as names
                yield point


def _links(directory: str) -> Iterator[str]:
    for name in os.listdir(directory):
        with suppress(OSError):  # closed meanwhile
            yield f"{name} {os.readlink(f'{directory}/{name}')}"
