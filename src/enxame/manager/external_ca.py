"""Certificate signers outside the swarm, in the cfssl protocol, asked exactly as swarmkit asks them."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from enxame.errors import EnxameError, InvalidArgument, Unavailable
from enxame.security.ca import KeyPair
from enxame.security.ca_request import cross_signing_request
from enxame.transport import identity
from enxame.transport.identity import Identity

__all__ = ["check_reachable", "cross_sign", "sign"]

log = logging.getLogger(__name__)

_DEADLINE: Final = 5.0
#: Of an answer, in bytes (swarmkit's CertificateMaxSize).
_LARGEST_ANSWER: Final = 256 << 10
#: The profile that a signer must have for certificates of a CA.
CROSS_SIGN_PROFILE: Final = "CA"
_UNITS: Final = {"manager": "swarm-manager", "worker": "swarm-worker"}


async def sign(
    urls: Sequence[str],
    root: str,
    own: Identity | None,
    request: str,
    *,
    node_id: str,
    role: str,
    cluster_id: str,
    addresses: Sequence[str] = (),
) -> str:
    """A node's certificate from the first signer that gives one. ``root`` is the root that it signs with, which must
    also have certified the signer's own server; ``own`` is what this manager shows.

    Raises:
        Unavailable: none of them does.
    """
    unit = _UNITS[role]
    hosts = [unit, node_id, *(["swarm-ca"] if role == "manager" else []), *addresses]
    names = [{"C": "", "ST": "", "L": "", "O": cluster_id, "OU": unit, "SerialNumber": ""}]
    return await _ask_all(urls, root, own, _sign_request(request, hosts=hosts, cn=node_id, names=names))


async def cross_sign(urls: Sequence[str], root: str, own: Identity | None, new: KeyPair) -> str:
    """The new root as an intermediate of the external one. Raises Unavailable."""
    made = await asyncio.to_thread(cross_signing_request, new)
    constraints = {"id": "2.5.29.19", "critical": made.critical, "value": made.constraints.hex()}
    body = _sign_request(made.request, hosts=None, cn=made.common_name, names=made.names, profile=CROSS_SIGN_PROFILE)
    return await _ask_all(urls, root, own, {**body, "extensions": [constraints]})


async def check_reachable(url: str, root: str, own: Identity | None) -> None:
    """Whether somebody listens there who has a certificate of this root. Raises InvalidArgument, saying why not."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise InvalidArgument("invalid HTTP scheme")
    try:
        context = await asyncio.to_thread(_context, root, own)
        async with asyncio.timeout(_DEADLINE):
            _, writer = await asyncio.open_connection(
                parts.hostname or "", parts.port or 443, ssl=context, server_hostname=parts.hostname
            )
        writer.transport.abort()
    except (OSError, ValueError, TimeoutError) as error:
        raise InvalidArgument(f"{url}: {error or 'no answer in time'}") from error


async def _ask_all(urls: Sequence[str], root: str, own: Identity | None, body: dict[str, Any]) -> str:
    failure: EnxameError = Unavailable("no external CA URLs")
    context = await asyncio.to_thread(_context, root, own)
    timeout = aiohttp.ClientTimeout(total=_DEADLINE)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=timeout) as session:
        for url in urls:
            try:
                return await _ask(session, url, body)
            except Unavailable as error:
                log.warning("the external CA at %s gave no certificate: %s", url, error.message)
                failure = error
    raise failure


async def _ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> str:
    try:
        async with session.post(
            url, data=msgspec.json.encode(body), headers={"Content-Type": "application/json"}, allow_redirects=False
        ) as answer:
            content = await answer.content.read(_LARGEST_ANSWER)
            while len(content) < _LARGEST_ANSWER and not answer.content.at_eof():
                content += await answer.content.read(_LARGEST_ANSWER - len(content))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        reason = str(error) or "no answer in time"
        raise Unavailable(f"unable to perform certificate signing request: {reason}") from error
    if answer.status != 200:
        text = content.decode(errors="replace").strip()[:500]
        raise Unavailable(f"unexpected status code in CSR response: {answer.status} - {text}")
    try:
        found = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Unavailable(f"unable to parse JSON response: {error}") from error
    result = found.get("result")
    if not found.get("success") or not isinstance(result, dict):
        errors = found.get("errors")
        raise Unavailable(f"response errors: {errors}" if errors else "certificate signing request failed")
    certificate = result.get("certificate")
    if not isinstance(certificate, str):
        raise Unavailable(f"invalid result certificate field type: {type(certificate).__name__}")
    return certificate


def _sign_request(
    request: str, *, hosts: list[str] | None, cn: str, names: list[dict[str, str]], profile: str = ""
) -> dict[str, Any]:
    """A signer.SignRequest of cfssl as Go writes it."""
    return {
        "hosts": hosts,
        "certificate_request": request,
        "subject": {"CN": cn, "names": names, "SerialNumber": ""},
        "profile": profile,
        "crl_override": "",
        "label": "",
    }


def _context(root: str, own: Identity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root)
    if own is not None:
        identity.show(context, own)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
