"""Where the daemon answers: its ``--host`` and ``--read-only-host`` addresses, TLS for those of the network."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from enxame.api.server import ApiServer
from enxame.api.tls import server_context
from enxame.daemon_config import ConfigError, DaemonConfig
from enxame.sd_listen import HandedOver

__all__ = ["insecure_addresses", "listen", "select_handed_over"]


async def listen(api: ApiServer, config: DaemonConfig, handed_over: Sequence[HandedOver]) -> None:
    """Open every listener of ``config``; ``fd://`` stands for the sockets that systemd handed over. Without any host
    these are served; without them, the default socket.

    Raises:
        ConfigError: an address that does not do, TLS without its files, no socket where ``fd://`` wants one.
        OSError: an address cannot be used.
    """
    tls = _tls_context(config)
    taken: set[int] = set()
    # Named sockets first: ``fd://`` alone takes those that nobody named.
    hosts = config.hosts or (["fd://"] if handed_over else [config.default_host])
    addresses = [(host, False) for host in hosts] + [(host, True) for host in config.read_only_hosts]
    for host, looks_only in sorted(addresses, key=lambda address: address[0] in ("fd://", "fd://*")):
        scheme, _, address = host.partition("://")
        if scheme == "unix" and address:
            await _listen_unix(api, address, config.group, looks_only=looks_only)
        elif scheme == "tcp":
            name, port = _tcp_address(host)
            await api.listen_tcp(name, port, tls=tls, looks_only=looks_only)
        elif scheme == "fd":
            chosen = select_handed_over([one for one in handed_over if one.descriptor not in taken], address)
            for one in chosen:
                taken.add(one.descriptor)
                await api.listen_socket(one.open(), tls=tls, looks_only=looks_only)
        else:
            raise ConfigError(
                f"invalid bind address {host}: expected unix://PATH, tcp://ADDRESS:PORT, fd:// or fd://NAME"
            )
    if config.metrics_addr:
        name, port = _tcp_address(config.metrics_addr)
        await api.listen_metrics(name, port)


def insecure_addresses(config: DaemonConfig) -> list[str]:
    """Those of the network where everybody may give orders."""
    return [host.removeprefix("tcp://") for host in config.hosts if host.startswith("tcp://") and not config.tls]


def select_handed_over(sockets: Sequence[HandedOver], wanted: str) -> list[HandedOver]:
    """The sockets that ``fd://wanted`` means: all, one by its name, or one by its number (from 3 on).

    Raises:
        ConfigError: there is none.
    """
    if wanted in ("", "*"):
        chosen = list(sockets)
    else:
        chosen = [one for one in sockets if wanted in (one.name, str(one.descriptor))]
    if not chosen:
        known = ", ".join(one.name for one in sockets) or "none"
        raise ConfigError(
            f"no socket was handed over for fd://{wanted} (systemd gave: {known}); is the socket unit active?"
        )
    return chosen


async def _listen_unix(api: ApiServer, path: str, group: str, *, looks_only: bool) -> None:
    try:
        await api.listen_unix(path, group=group or None, looks_only=looks_only)
    except KeyError:
        raise ConfigError(f"could not find group {group}") from None


def _tcp_address(host: str) -> tuple[str, int]:
    name, _, port = host.removeprefix("tcp://").rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigError(f"invalid bind address {host}: expected ADDRESS:PORT")
    return name.strip("[]") or "0.0.0.0", int(port)


def _tls_context(config: DaemonConfig) -> ssl.SSLContext | None:
    if not config.tls:
        return None
    if not (config.tlscert and config.tlskey):
        raise ConfigError("TLS needs --tlscert and --tlskey")
    if config.tlsverify and not config.tlscacert:
        raise ConfigError("--tlsverify needs --tlscacert")
    try:
        return server_context(config.tlscert, config.tlskey, config.tlscacert if config.tlsverify else None)
    except ssl.SSLError as error:
        files = ", ".join(filter(None, (config.tlscert, config.tlskey, config.tlscacert)))
        raise ConfigError(f"could not load X509 key pair or CA of {files}: {error.reason or error}") from error
