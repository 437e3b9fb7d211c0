"""Talking to registries, through skopeo: which registries are insecure, credentials, mirrors, manifests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import json
import os
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from enxame.engine.children import PIPE, Child, child
from enxame.engine.images.reference import DEFAULT_DOMAIN, Reference
from enxame.engine.images.registry_errors import UNREACHABLE, registry_error
from enxame.errors import EnxameError, InvalidArgument
from enxame.model.image import RegistryAuth

__all__ = ["FoundManifest", "Registry", "Session"]

#: Seconds until a registry must have answered with a manifest.
_MANIFEST_DEADLINE: Final = 30.0
#: Seconds until a registry must at least have taken our connection; a network that swallows packets is told by this.
_CONNECT_DEADLINE: Final = 1.5
_PROXY_VARIABLES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class FoundManifest:
    """A manifest or index as the registry has it, byte for byte."""

    content: bytes
    digest: str


@dataclass(frozen=True)
class Session:
    """How skopeo is to be called for one registry and one user."""

    command: tuple[str, ...]
    options: tuple[str, ...]
    environment: dict[str, str]


class Registry:
    """The registries, as this daemon is configured to reach them."""

    def __init__(self, root: Path, *, insecure: Sequence[str] = (), mirrors: Sequence[str] = ()) -> None:
        self._root = root
        self._insecure = list(insecure)
        self._mirrors = list(mirrors)

    def start(self) -> None:
        """Write what skopeo reads. Blocks."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._root.glob("auth-*"):
            leftover.unlink()
        (self._root / "registries.conf").write_text(registries_conf(self._mirrors))

    def is_insecure(self, domain: str) -> bool:
        """Whether the registry may be reached without TLS, or with a certificate that nobody vouches for.
        Loopback addresses always may; others when the daemon's options name them (host, host:port or CIDR).
        """
        host = domain.rsplit(":", 1)[0] if not domain.endswith("]") else domain
        if domain in self._insecure or host == "localhost":
            return True
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            return False
        return address.is_loopback or any(_in_network(address, entry) for entry in self._insecure)

    @asynccontextmanager
    async def session(self, reference: Reference, auth: RegistryAuth | None) -> AsyncIterator[Session]:
        """The options for calls about ``reference``; credentials lie in a file only as long as the block lasts."""
        path = self._root / f"auth-{os.urandom(8).hex()}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(auth_file(reference.domain, auth))
        # Signatures are not checked, as in Docker: digests and TLS are.
        command = ("skopeo", "--insecure-policy", "--registries-conf", str(self._root / "registries.conf"))
        options = ["--authfile", str(path)]
        if self.is_insecure(reference.domain):
            options.append("--tls-verify=false")
        environment = {name: os.environ[name] for name in _PROXY_VARIABLES if name in os.environ} | {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": str(self._root),
        }
        try:
            yield Session(command, tuple(options), environment)
        finally:
            path.unlink(missing_ok=True)

    async def manifest(self, reference: Reference, session: Session) -> FoundManifest:
        """The manifest or index that the reference names.

        Raises:
            EnxameError: in Docker's words: not there, not allowed, not reachable.
        """
        content = await self._skopeo(reference, session, "inspect", "--raw")
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if reference.digest.startswith("sha256:") and digest != reference.digest:
            raise EnxameError(f"manifest verification failed for digest {reference.digest}")
        return FoundManifest(content, digest)

    async def config(self, reference: Reference, session: Session) -> bytes:
        """The image configuration that belongs to the reference's manifest. Raises as :meth:`manifest`."""
        return await self._skopeo(reference, session, "inspect", "--raw", "--config")

    async def tags(self, repository: Reference, session: Session) -> list[str]:
        """All tags of a repository. Raises as :meth:`manifest`."""
        answer = await self._skopeo(repository, session, "list-tags", source=f"docker://{repository.name}")
        return [str(tag) for tag in json.loads(answer).get("Tags") or []]

    async def _skopeo(self, reference: Reference, session: Session, *command: str, source: str = "") -> bytes:
        words = (*session.command, *command, *session.options, source or location(reference))
        try:
            async with (
                asyncio.timeout(_MANIFEST_DEADLINE),
                child(*words, stdout=PIPE, stderr=PIPE, env=session.environment) as process,
            ):
                out, err = await self._communicate(process, reference)
        except FileNotFoundError as error:
            raise EnxameError("skopeo is not installed: images cannot be pulled") from error
        except TimeoutError as error:
            raise EnxameError(UNREACHABLE.format(url=f"https://{_host(reference)}/v2/")) from error
        if process.returncode != 0:
            raise registry_error(err.decode(errors="replace"), reference)
        return out

    async def _communicate(self, process: Child, reference: Reference) -> tuple[bytes, bytes]:
        answer = asyncio.ensure_future(process.communicate())
        try:
            if self._is_direct(reference):
                probe = asyncio.ensure_future(_can_connect(_host(reference), self._port(reference)))
                try:
                    await asyncio.wait({answer, probe}, return_when=asyncio.FIRST_COMPLETED)
                    if not answer.done() and not await probe:
                        raise TimeoutError
                finally:
                    probe.cancel()
                    await asyncio.wait({probe})
            return await answer
        finally:
            answer.cancel()
            await asyncio.wait({answer})

    def _is_direct(self, reference: Reference) -> bool:
        """Whether the registry itself must be reachable from here: no proxy and no mirror stands before it."""
        proxied = any(name.lower().startswith("http") for name in _PROXY_VARIABLES if name in os.environ)
        return not proxied and not (self._mirrors and reference.domain == DEFAULT_DOMAIN)

    def _port(self, reference: Reference) -> int:
        host, colon, port = reference.domain.rpartition(":")
        return int(port) if colon and host and port.isdigit() else 443


def location(reference: Reference) -> str:
    """The reference as skopeo takes it. It refuses a tag beside a digest; the digest decides."""
    return f"docker://{reference.canonical(reference.digest) if reference.digest else reference.tagged()}"


def _host(reference: Reference) -> str:
    if reference.domain == DEFAULT_DOMAIN:
        return "registry-1.docker.io"
    host, colon, port = reference.domain.rpartition(":")
    return (host if colon and port.isdigit() else reference.domain).strip("[]")


# Resolving a name may take long and cannot be cut short: it has threads of its own, so that it holds up nothing else.
_connecting = ThreadPoolExecutor(max_workers=4, thread_name_prefix="registry-connect")


async def _can_connect(host: str, port: int) -> bool:
    """False only when the network swallows the attempt; a refusal or an unknown name is for skopeo to tell."""

    def connect() -> None:
        socket.create_connection((host, port), _CONNECT_DEADLINE).close()

    try:
        async with asyncio.timeout(_CONNECT_DEADLINE):
            await asyncio.get_running_loop().run_in_executor(_connecting, connect)
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def auth_file(domain: str, auth: RegistryAuth | None) -> bytes:
    """The credentials in the form that skopeo reads.

    Raises:
        InvalidArgument: a kind of credentials that it does not know.
    """
    if auth is None:
        return b'{"auths":{}}'
    if auth.registrytoken:
        raise InvalidArgument("registry tokens are not supported: log in with a user name and a password")
    entry: dict[str, str] = {}
    if auth.username:
        entry["auth"] = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
    elif auth.auth:
        entry["auth"] = auth.auth
    if auth.identitytoken:
        entry["identitytoken"] = auth.identitytoken
    return json.dumps({"auths": {domain: entry} if entry else {}}).encode()


def registries_conf(mirrors: Sequence[str]) -> str:
    """What skopeo is configured with: mirrors of docker.io, tried in order before it."""
    lines = ["unqualified-search-registries = []"]
    if mirrors:
        lines += ["[[registry]]", 'prefix = "docker.io"', 'location = "docker.io"']
    for mirror in mirrors:
        plain = mirror.startswith("http://")
        place = mirror.removeprefix("https://").removeprefix("http://").rstrip("/")
        lines += ["[[registry.mirror]]", f"location = {json.dumps(place)}", f"insecure = {json.dumps(plain)}"]
    return "\n".join(lines) + "\n"


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
