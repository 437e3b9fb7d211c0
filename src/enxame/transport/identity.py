"""TLS for links: a node's own certificate, whom it believes, and who the other side is."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass
from typing import Final

from enxame.errors import Unauthenticated

#: Linux's TCP_THIN_LINEAR_TIMEOUTS (tcp.h), which Python has no name for.
_THIN_LINEAR_TIMEOUTS: Final = 16

_UNITS = {"swarm-manager": "manager", "swarm-worker": "worker"}


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM texts: the node's certificate (with an intermediate while the root is rotated) and key, and the root that
    others must show a certificate of. ``next_root`` is believed as well: it is to take the place of the root.
    """

    certificate: str
    key: str
    root: str
    next_root: str = ""

    @property
    def believed(self) -> str:
        """All roots that others may show certificates of."""
        return self.root + self.next_root


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a certificate says the other side is; all empty without one."""

    node_id: str = ""
    role: str = ""
    cluster_id: str = ""


def server_context(identity: Identity) -> ssl.SSLContext:
    """For a manager's port. A caller may come without a certificate; one that it shows must be the root's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    show(context, identity)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=identity.believed)
    # A resumed session would not be looked at again.
    context.num_tickets = 0
    return context


class ServerIdentity:
    """What a manager's port shows and whom it believes: replaced while it listens, for links that begin from then."""

    def __init__(self, identity: Identity) -> None:
        self._newest = server_context(identity)
        #: To listen with.
        self.context = server_context(identity)
        # Asked at every handshake, also when the caller names no server.
        self.context.sni_callback = self._choose

    def replace(self, identity: Identity) -> None:
        """Show this certificate, believe these roots alone."""
        self._newest = server_context(identity)

    def _choose(self, link: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        link.context = self._newest


def client_context(identity: Identity) -> ssl.SSLContext:
    """For a node that calls a manager: both must prove themselves."""
    context = joining_context(identity.believed)
    show(context, identity)
    return context


def joining_context(root: str) -> ssl.SSLContext:
    """For a node that has no certificate yet and knows the root from its token."""
    context = _client()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=root)
    return context


def unverified_context() -> ssl.SSLContext:
    """For asking an unknown manager for its root, which is believed only if it matches the token."""
    return _client()


def show(context: ssl.SSLContext, identity: Identity) -> None:
    """Let a context show this certificate, on links that begin from now on."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The ssl module takes certificate chains from files alone; this one is in memory, for the key may be on no disk.
    file = os.memfd_create("enxame-tls", os.MFD_CLOEXEC)
    try:
        os.write(file, f"{identity.certificate}\n{identity.key}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def caller(writer: asyncio.StreamWriter) -> Caller:
    """Who is at the other end of a TLS link.

    Raises:
        Unauthenticated: a certificate that is none of a node.
    """
    shown = writer.get_extra_info("ssl_object").getpeercert()
    if not shown:
        return Caller()
    names = {key: value for pair in shown.get("subject", ()) for key, value in pair}
    role = _UNITS.get(names.get("organizationalUnitName", ""), "")
    if not role or not names.get("commonName") or not names.get("organizationName"):
        raise Unauthenticated("the certificate is not one of a node")
    return Caller(names["commonName"], role, names["organizationName"])


def send_again_soon(writer: asyncio.StreamWriter) -> None:
    """Let lost packets be sent again without doubling the wait each time: a short cut is over when it is over."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, _THIN_LINEAR_TIMEOUTS, 1)


def _client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nodes are known by their certificates, not by names or addresses, which may change.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
