"""The environment that legacy links on the default bridge give a container. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["link_variables"]

_LEFT_OUT = frozenset({"HOME", "PATH"})


def link_variables(name: str, alias: str, address: str, ports: Iterable[str], env: Iterable[str]) -> list[str]:
    """``NAME=value`` texts for the container ``name`` about the one that it calls ``alias``: its address, its exposed
    ``ports`` (``80/tcp``) and its own environment.
    """
    prefix = alias.upper().replace("-", "_")
    found = []
    for number, (port, protocol) in enumerate(sorted(map(_port, ports))):
        if number == 0:
            found.append(f"{prefix}_PORT={protocol}://{address}:{port}")
        about = f"{prefix}_PORT_{port}_{protocol.upper()}"
        found += [
            f"{about}={protocol}://{address}:{port}",
            f"{about}_ADDR={address}",
            f"{about}_PORT={port}",
            f"{about}_PROTO={protocol}",
        ]
    found.append(f"{prefix}_NAME=/{name}/{alias}")
    for text in env:
        key, equals, value = text.partition("=")
        if equals and key not in _LEFT_OUT:
            found.append(f"{prefix}_ENV_{key}={value}")
    return found


def _port(text: str) -> tuple[int, str]:
    port, _, protocol = text.partition("/")
    return int(port.partition("-")[0]), protocol or "tcp"
