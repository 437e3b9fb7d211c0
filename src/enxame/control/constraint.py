"""Placement constraints: ``node.labels.zone==a``, ``node.role!=manager`` and the like.

Keys are ``node.id``, ``node.hostname``, ``node.ip`` (an address or a CIDR), ``node.role``, ``node.platform.os``,
``node.platform.arch``, ``node.labels.*`` and ``engine.labels.*``. Keys and values are compared without case, label
names with it. A missing label is the empty text; an unknown key matches no node.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from enxame.errors import InvalidArgument
from enxame.model.node import Node

_OPERATORS: Final = ("==", "!=")
_KEY: Final = re.compile(r"[a-z_][a-z0-9\-_.]+", re.IGNORECASE | re.ASCII)
_VALUE: Final = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE | re.ASCII)
_NODE_LABEL: Final = "node.labels."
_ENGINE_LABEL: Final = "engine.labels."

_ATTRIBUTES: Final[dict[str, Callable[[Node], str]]] = {
    "node.id": lambda node: node.id,
    "node.hostname": lambda node: node.description.hostname,
    "node.role": lambda node: node.spec.role,
    "node.platform.os": lambda node: node.description.platform.os,
    "node.platform.arch": lambda node: node.description.platform.architecture,
}


@dataclass(frozen=True, slots=True)
class Constraint:
    """One parsed expression; ``equal`` is False for ``!=``."""

    key: str
    equal: bool
    value: str

    def matches(self, node: Node) -> bool:
        """Whether the node satisfies this expression."""
        key = self.key.lower()
        if key == "node.ip":
            return self._matches_address(node.status.addr)
        if key in _ATTRIBUTES:
            actual = _ATTRIBUTES[key](node)
        elif key.startswith(_NODE_LABEL) and len(key) > len(_NODE_LABEL):
            actual = node.spec.labels.get(self.key[len(_NODE_LABEL) :], "")
        elif key.startswith(_ENGINE_LABEL) and len(key) > len(_ENGINE_LABEL):
            actual = node.description.engine.labels.get(self.key[len(_ENGINE_LABEL) :], "")
        else:
            return False
        return (actual.casefold() == self.value.casefold()) == self.equal

    def _matches_address(self, addr: str) -> bool:
        try:
            wanted = ipaddress.ip_network(self.value, strict=False)
        except ValueError:
            return False
        try:
            inside = ipaddress.ip_address(addr) in wanted
        except ValueError:
            inside = False
        return inside == self.equal


def parse(expressions: Iterable[str]) -> tuple[Constraint, ...]:
    """The parsed constraints, in order.

    Raises:
        InvalidArgument: an expression without operator (``constraint expected one operator from ==, !=``), with a bad
            key (``key 'X' is invalid``) or a bad value (``value 'X' is invalid``).
    """
    return _parse(tuple(expressions))


def matches(constraints: Iterable[Constraint], node: Node) -> bool:
    """Whether the node satisfies all of them."""
    return all(constraint.matches(node) for constraint in constraints)


@lru_cache(maxsize=1024)
def _parse(expressions: tuple[str, ...]) -> tuple[Constraint, ...]:
    return tuple(_parse_one(expression) for expression in expressions)


def _parse_one(expression: str) -> Constraint:
    for operator in _OPERATORS:
        key, found, value = expression.partition(operator)
        if not found:
            continue
        key, value = key.strip(), value.strip()
        if not _KEY.fullmatch(key):
            raise InvalidArgument(f"key '{key}' is invalid")
        if not _VALUE.fullmatch(value):
            raise InvalidArgument(f"value '{value}' is invalid")
        return Constraint(key, operator == "==", value)
    raise InvalidArgument(f"constraint expected one operator from {', '.join(_OPERATORS)}")
