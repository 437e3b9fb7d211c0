"""Asking a registry whether credentials are good, through skopeo."""

from __future__ import annotations

import asyncio
from typing import Final

from enxame.engine.children import PIPE, child
from enxame.engine.images.reference import DEFAULT_DOMAIN, Reference
from enxame.engine.images.registry import Registry
from enxame.engine.images.registry_errors import registry_error
from enxame.errors import EnxameError, InvalidArgument, Unauthenticated, Unimplemented
from enxame.model.image import RegistryAuth

__all__ = ["check_login", "registry_domain"]

#: Seconds until the registry must have answered.
_DEADLINE: Final = 20.0


def registry_domain(address: str) -> str:
    """The registry that a client means by ``serveraddress``: a host, or an old client's URL such as Docker Hub's."""
    host = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_DOMAIN if host in ("", "index.docker.io", "registry-1.docker.io", "docker.io") else host


async def check_login(registry: Registry, auth: RegistryAuth) -> None:
    """Log in with a name and a password; nothing is kept.

    Raises:
        InvalidArgument: there is no name.
        Unauthenticated: the registry does not take them.
        EnxameError: it cannot be reached.
    """
    if auth.identitytoken or auth.registrytoken:
        raise Unimplemented("logging in with a token is not supported by this daemon yet")
    if not auth.username:
        raise InvalidArgument("a user name is needed to log in")
    domain = registry_domain(auth.serveraddress)
    async with registry.session(Reference(domain, "login"), None) as session:
        try:
            async with (
                asyncio.timeout(_DEADLINE),
                child(
                    *("skopeo", "login", *session.options, "--username", auth.username, "--password-stdin", domain),
                    stdin=PIPE,
                    stderr=PIPE,
                    env=session.environment,
                ) as process,
            ):
                _, told = await process.communicate(auth.password.encode())
        except FileNotFoundError as error:
            raise EnxameError("skopeo is not installed: registries cannot be asked") from error
        except TimeoutError as error:
            raise EnxameError(f'Get "https://{domain}/v2/": timeout while waiting for the registry') from error
    if process.returncode != 0:
        text = told.decode(errors="replace").strip()
        if "invalid username/password" in text or "unauthorized" in text.lower():
            raise Unauthenticated(f'Get "https://{domain}/v2/": unauthorized: incorrect username or password')
        raise registry_error(text, Reference(domain, "login"))
