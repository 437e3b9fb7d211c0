"""Where packets arrive, two ways to have a program look at them. Everything blocks shortly.

:class:`TcxLinks` (Linux 6.6) end with the process, whatever ends it. :class:`Filters` (of the queueing discipline
``clsact``) stay with the link: whoever comes next removes what a process that was killed has left
(:func:`remove_leftovers`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Collection
from typing import Final, Protocol

from enxame.network.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkError,
    NetlinkSocket,
    Request,
    nested,
    parse_attributes,
    text,
    u32,
)
from enxame.network.shortcuts import bpf

_NEW_QDISC: Final = 36
_DELETE_QDISC: Final = 37
_GET_QDISC: Final = 38
_NEW_FILTER: Final = 44
_DELETE_FILTER: Final = 45
_GET_FILTER: Final = 46
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_BPF_FD: Final = 6
_BPF_NAME: Final = 7
_BPF_FLAGS: Final = 8
_DIRECT_ACTION: Final = 1

# linux/pkt_sched.h
_CLSACT: Final = 0xFFFFFFF1
_CLSACT_HANDLE: Final = 0xFFFF0000
_INGRESS: Final = 0xFFFFFFF2
_EGRESS: Final = 0xFFFFFFF3
_EVERY_PROTOCOL: Final = 3
#: Of our filters, among others at the same link; and how they are called.
_PRIORITY: Final = 0x656E
_NAME: Final = "enxame-mesh"

_header = struct.Struct("=BxxxiIII")


class Attachments(Protocol):
    """Links that a program is attached to, by index."""

    @property
    def links(self) -> Collection[int]:
        """Where."""

    def attach(self, link: int) -> None:
        """Raises BpfError or NetlinkError: the link is gone, or takes no programs."""

    def detach(self, link: int) -> None:
        """The link may be gone."""


class TcxLinks:
    """See the module."""

    def __init__(self, program: int) -> None:
        self._program = program
        self._links: dict[int, int] = {}

    @property
    def links(self) -> Collection[int]:
        """Where."""
        return self._links.keys()

    def attach(self, link: int) -> None:
        """Raises BpfError."""
        self._links[link] = bpf.attach_to_ingress(self._program, link)

    def detach(self, link: int) -> None:
        """The link may be gone."""
        os.close(self._links.pop(link))


class Filters:
    """See the module."""

    def __init__(self, program: int, routes: NetlinkSocket) -> None:
        self._program = program
        self._routes = routes
        self._links: set[int] = set()

    @property
    def links(self) -> Collection[int]:
        """Where."""
        return self._links

    def attach(self, link: int) -> None:
        """Raises NetlinkError."""
        create = NLM_F_CREATE | NLM_F_EXCL
        options = nested(
            _TCA_OPTIONS, u32(_BPF_FD, self._program), text(_BPF_NAME, _NAME), u32(_BPF_FLAGS, _DIRECT_ACTION)
        )
        place = _header.pack(0, link, _CLSACT_HANDLE, _CLSACT, 0) + text(_TCA_KIND, "clsact")
        filter_ = _filter(link) + text(_TCA_KIND, "bpf") + options
        self._routes.execute(
            [
                Request(_NEW_QDISC, create, place, f"let link {link} have filters", frozenset({errno.EEXIST})),
                Request(_NEW_FILTER, create, filter_, f"add a filter to link {link}"),
            ]
        )
        self._links.add(link)

    def detach(self, link: int) -> None:
        """The link may be gone."""
        self._links.discard(link)
        _remove(self._routes, link)


def remove_leftovers(routes: NetlinkSocket) -> None:
    """Remove filters that an earlier process left."""
    everywhere = Request(_GET_QDISC, 0, _header.pack(0, 0, 0, 0, 0), "list queueing disciplines")
    for body in routes.dump(everywhere):
        _, link, _, parent, _ = _header.unpack_from(body)
        if parent == _CLSACT and any(_is_ours(item) for item in _filters(routes, link, _INGRESS)):
            _remove(routes, link)


def attachments(program: int, routes: NetlinkSocket) -> Attachments:
    """The better way that this kernel has, tried at a link that every namespace has.

    Raises:
        BpfError, NetlinkError: it has none, or does not let us.
    """
    loopback = 1
    ways: list[Attachments] = [TcxLinks(program), Filters(program, routes)]
    for way in ways:
        with contextlib.suppress(bpf.BpfError):
            way.attach(loopback)
            way.detach(loopback)
            return way
    raise AssertionError("unreachable: netlink's errors are no BpfError")


def _remove(routes: NetlinkSocket, link: int) -> None:
    with contextlib.suppress(NetlinkError):  # the link is gone
        routes.execute([Request(_DELETE_FILTER, 0, _filter(link), f"remove the filter of link {link}")])
        if not any(_filters(routes, link, parent) for parent in (_INGRESS, _EGRESS)):
            place = _header.pack(0, link, _CLSACT_HANDLE, _CLSACT, 0)
            routes.execute([Request(_DELETE_QDISC, 0, place, f"let link {link} have no filters")])


def _filter(link: int) -> bytes:
    return _header.pack(0, link, 1, _INGRESS, _PRIORITY << 16 | socket.htons(_EVERY_PROTOCOL))


def _filters(routes: NetlinkSocket, link: int, parent: int) -> list[bytes]:
    where = _header.pack(0, link, 0, parent, 0)
    return routes.dump(Request(_GET_FILTER, 0, where, f"list the filters of link {link}", frozenset({errno.ENODEV})))


def _is_ours(body: bytes) -> bool:
    options = parse_attributes(parse_attributes(body[_header.size :]).get(_TCA_OPTIONS, b""))
    return options.get(_BPF_NAME, b"").rstrip(b"\0") == _NAME.encode()
