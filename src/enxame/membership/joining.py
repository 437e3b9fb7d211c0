"""A new node asks the managers of a swarm for its certificate, believing nobody but its join token."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from enxame.errors import Unavailable
from enxame.security import ca
from enxame.security.tokens import JoinToken, root_digest
from enxame.transport import dialer
from enxame.transport.identity import Identity, joining_context, unverified_context
from enxame.transport.methods import CA_ISSUE, CA_ROOT, IssueRequest, NodeCertificate, Nothing

#: Rounds over all addresses after which a clear no (nobody listens, no manager) is believed.
ROUNDS: Final = 5
_DIGEST_HEX_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class Admitted:
    """A node's place in a swarm. ``local_address`` is this machine's IP towards the manager at ``remote_address``."""

    certificate: NodeCertificate
    identity: Identity
    local_address: str
    remote_address: str


class _NoManager(Unavailable):
    """An address whose other side says clearly that it is none."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a node asks for. ``advertise``: where it will listen (``host:port``), empty: where it is seen from;
    ``manager_trouble``: why it cannot become a manager.
    """

    token: JoinToken
    availability: str = ""
    advertise: str = ""
    manager_trouble: str = ""


async def join(addresses: Sequence[str], wish: Wish, rng: Callable[[], float]) -> Admitted:
    """Ask the managers in turn, until one answers.

    Raises:
        Unavailable: nobody listens there, or it is not the swarm of the token.
        EnxameError: what the manager answered.
    """
    delay, rounds, clear, last = 0.0, 0, True, ""
    # One key for all tries: should an answer get lost, the manager knows the node again.
    key, request = await asyncio.to_thread(ca.new_signing_request)
    while True:
        for address in addresses:
            try:
                return await _ask(address, wish, key, request)
            except _NoManager as error:
                last = error.message
            except _WrongSwarm:
                raise
            except Unavailable:
                clear = False
        rounds += 1
        if clear and rounds >= ROUNDS:
            raise Unavailable(last)
        delay = dialer.next_delay(delay, rng())
        await asyncio.sleep(delay)


class _WrongSwarm(Unavailable):
    """The manager's root is not that of the token."""


async def _ask(address: str, wish: Wish, key: str, request: str) -> Admitted:
    token = wish.token
    try:
        async with dialer.link(address, unverified_context()) as peer:
            root = (await peer.call(CA_ROOT, Nothing())).root
    except Unavailable as error:
        if isinstance(error.__cause__, (ConnectionRefusedError, ssl.SSLError)):
            raise _NoManager(error.message) from error
        raise
    if _digest(root) != token.digest:
        raise _WrongSwarm(f"remote CA does not match fingerprint. Expected: {_hex(token.digest)}")
    async with dialer.link(address, joining_context(root)) as peer:
        answer = await peer.call(
            CA_ISSUE,
            IssueRequest(
                token=str(token),
                signing_request=request,
                availability=wish.availability,
                addr=wish.advertise,
                manager_trouble=wish.manager_trouble,
            ),
        )
        return Admitted(answer, Identity(answer.certificate, key, root, answer.next_root), peer.local_address, address)


def _digest(root: str) -> str:
    try:
        return root_digest(root)
    except ValueError:
        return ""


def _hex(digest: str) -> str:
    return f"{int(digest, 36):x}".rjust(_DIGEST_HEX_DIGITS, "0")
