"""Addresses in flags: DNS servers, search domains, ``host:ip`` mappings."""

import ipaddress
import re
from typing import Final

_DOMAIN: Final = re.compile(r"^(?=.{1,255}$)[a-zA-Z0-9_]([a-zA-Z0-9_-]*)?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]*)?)*\.?$")


def parse_ip(text: str) -> str:
    """An IPv4 or IPv6 address."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise ValueError(f"{text} is not an ip address") from None


def parse_search_domain(text: str) -> str:
    """A DNS search domain; ``.`` alone is "none"."""
    body = text.strip()
    if body == "." or _DOMAIN.match(body):
        return body
    raise ValueError(f"{text} is not a valid domain")


def parse_extra_host(text: str) -> str:
    """``host:ip`` or ``host=ip``; the address may be ``host-gateway``."""
    name, separator, address = text.partition("=")
    if not separator:
        name, separator, address = text.partition(":")
    if not separator or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    address = address.strip("[]")
    if address != "host-gateway":
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ValueError(f'invalid IP address in add-host: "{address}"') from None
    return f"{name}:{address}"


def swarm_hosts(mappings: list[str] | tuple[str, ...]) -> list[str]:
    """``host:ip`` → ``ip host``, the form of service specs."""
    return [f"{address} {name}" for name, _, address in (m.partition(":") for m in mappings)]
