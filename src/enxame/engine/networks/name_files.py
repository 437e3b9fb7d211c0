"""The texts of a container's ``/etc/hosts`` and ``/etc/resolv.conf``. Pure, but for reading the host's files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

_HOSTS: Final = Path("/etc/hosts")
_RESOLV: Final = Path("/etc/resolv.conf")
#: Where systemd-resolved writes the servers behind its own loopback one.
_RESOLVED: Final = Path("/run/systemd/resolve/resolv.conf")

#: The embedded resolver.
RESOLVER: Final = "127.0.0.11"

_HOSTS_HEAD: Final = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts_text(
    addresses: Iterable[str], hostname: str, domainname: str, extra: Sequence[str], host_gateway: str = ""
) -> str:
    """A container's hosts file: the usual names, ``extra`` (``name:address``; the address ``host-gateway`` is
    ``host_gateway``), the container's own.
    """
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    own = "".join(f"{address}\t{names}\n" for address in addresses)
    return _HOSTS_HEAD + _extra_text(extra, host_gateway) + own


def host_hosts_text(extra: Sequence[str]) -> str:
    """The host's own file with ``extra``: for containers in the host's namespace."""
    return _read(_HOSTS) + _extra_text(extra, "127.0.0.1")


def embedded_resolv_text(*, search: Sequence[str], options: Sequence[str]) -> str:
    """A resolver file that names the embedded resolver; ``options`` and ``search`` as given, else the host's."""
    options = options or _host_options()
    if not any(option.startswith("ndots:") for option in options):
        # Names without dots are ours to answer: they are asked for as they are.
        options = [*options, "ndots:0"]
    return resolv_text(servers=[RESOLVER], search=search, options=options, keep_loopback=True)


def outside_servers(servers: Sequence[str]) -> list[str]:
    """Whom the embedded resolver asks: ``servers``, else the host's. It asks from the host, where resolvers on
    loopback addresses answer.
    """
    return list(servers) or [words[1] for words in _host_lines() if len(words) > 1 and words[0] == "nameserver"]


def _host_lines() -> list[list[str]]:
    return [line.split() for line in _read(_RESOLV).splitlines()]


def _host_options() -> list[str]:
    return next((words[1:] for words in reversed(_host_lines()) if words[:1] == ["options"]), [])


def resolv_text(
    *, servers: Sequence[str], search: Sequence[str], options: Sequence[str], keep_loopback: bool = False
) -> str:
    """A container's resolver file: what is given, and for the rest the host's, without resolvers on loopback
    addresses (nobody answers there inside a container) unless ``keep_loopback``.
    """
    host = _read(_RESOLV)
    own = [line.split() for line in host.splitlines()]
    if not servers:
        servers = [words[1] for words in own if len(words) > 1 and words[0] == "nameserver"]
        if not keep_loopback:
            if servers and all(_is_loopback(server) for server in servers):
                lines = [line.split() for line in _read(_RESOLVED).splitlines()]
                servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
            servers = [server for server in servers if not _is_loopback(server)]
    search = search or next((words[1:] for words in reversed(own) if words[:1] in (["search"], ["domain"])), [])
    options = options or next((words[1:] for words in reversed(own) if words[:1] == ["options"]), [])
    lines_out = [f"nameserver {server}" for server in servers]
    if search and list(search) != ["."]:
        lines_out.append("search " + " ".join(search))
    if options:
        lines_out.append("options " + " ".join(options))
    return "".join(f"{line}\n" for line in lines_out)


def _extra_text(extra: Sequence[str], host_gateway: str) -> str:
    lines: list[str] = []
    for entry in extra:
        name, _, address = entry.partition(":")
        if address == "host-gateway":
            address = host_gateway
        if name and address:
            lines.append(f"{address}\t{name}\n")
    return "".join(lines)


def _is_loopback(server: str) -> bool:
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
