"""TLS for links: a node's own certificate, whom it believes, and who the other side is."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from enxame.errors import Unauthenticated

#: Linux's TCP_THIN_LINEAR_TIMEOUTS (tcp.h), which Python has no name for.
_THIN_LINEAR_TIMEOUTS: Final = 16

_UNITS = {"swarm-manager": "manager", "swarm-worker": "worker"}


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM texts: the node's certificate and key, and the root that others must show a certificate of."""

    certificate: str
    key: str
    root: str


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
    context.load_verify_locations(cadata=identity.root)
    return context


def client_context(identity: Identity) -> ssl.SSLContext:
    """For a node that calls a manager: both must prove themselves."""
    context = joining_context(identity.root)
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
    # The ssl module takes certificate chains from files alone.
    with tempfile.TemporaryDirectory(prefix="enxame-tls-") as directory:
        certificate, key = Path(directory) / "cert.pem", Path(directory) / "key.pem"
        key.touch(mode=0o600)
        certificate.write_text(identity.certificate)
        key.write_text(identity.key)
        context.load_cert_chain(certificate, key)


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
