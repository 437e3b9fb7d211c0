"""Where the daemon is, and how to open a socket to it: unix, tcp, tcp with TLS."""

import os
import socket
from dataclasses import dataclass
from typing import Final

from enxame.cli.errors import CliError

DEFAULT_HOST: Final = "unix:///run/enxame/enxame.sock"
#: Seconds that opening a TCP connection may take.
CONNECT_TIMEOUT: Final = 15.0


@dataclass(frozen=True)
class TlsFiles:
    """Paths of PEM files; an empty path means "not given"."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True


@dataclass(frozen=True)
class Endpoint:
    """A daemon's address. ``url`` is as the user wrote it and is shown in messages."""

    url: str
    scheme: str
    address: str
    port: int = 0
    tls: TlsFiles | None = None

    @property
    def host_header(self) -> str:
        """Value of the HTTP Host header."""
        return f"{self.address}:{self.port}" if self.scheme == "tcp" else "enxame"

    def connect(self, timeout: float | None = None) -> socket.socket:
        """A connected stream socket. Raises OSError; ssl.SSLError is one."""
        if self.scheme == "unix":
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout)
                sock.connect(self.address)
            except BaseException:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((self.address, self.port), timeout or CONNECT_TIMEOUT)
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock if self.tls is None else _wrap(sock, self.address, self.tls)


def _wrap(sock: socket.socket, server: str, files: TlsFiles) -> socket.socket:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.verify:
        if files.ca:
            context.load_verify_locations(files.ca)
        else:
            context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.cert and files.key:
        context.load_cert_chain(files.cert, files.key)
    try:
        return context.wrap_socket(sock, server_hostname=server)
    except BaseException:
        sock.close()
        raise


def parse_host(url: str, tls: TlsFiles | None = None) -> Endpoint:
    """Reads ``unix://PATH``, ``tcp://HOST[:PORT]``, ``PATH`` or ``HOST:PORT``. Raises CliError."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = ("unix", url) if url.startswith("/") else ("tcp", url)
    if scheme == "unix":
        return Endpoint(url, "unix", rest or DEFAULT_HOST.removeprefix("unix://"))
    if scheme not in {"tcp", "http", "https"}:
        raise CliError(f"unable to parse docker host `{url}`")
    host, _, port_text = rest.rstrip("/").rpartition(":")
    if not host:
        host, port_text = rest.rstrip("/"), "2376" if tls or scheme == "https" else "2375"
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) < 6) or not host:
        raise CliError(f"unable to parse docker host `{url}`")
    if scheme == "https" and tls is None:
        tls = TlsFiles()
    return Endpoint(url, "tcp", host.strip("[]"), int(port_text), tls)


def host_from_environment() -> str:
    """``ENXAME_HOST``, then ``DOCKER_HOST``; empty without both."""
    return os.environ.get("ENXAME_HOST") or os.environ.get("DOCKER_HOST") or ""


def tls_files(*, tls: bool, verify: bool, ca: str, cert: str, key: str) -> TlsFiles | None:
    """The files of ``--tls*``; what is not given comes from DOCKER_CERT_PATH (or ~/.docker). None without TLS."""
    verify = verify or bool(os.environ.get("DOCKER_TLS_VERIFY"))
    if not (tls or verify or ca or cert or key):
        return None
    folder = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")

    def default(given: str, name: str) -> str:
        path = os.path.join(folder, name)
        return given or (path if os.path.exists(path) else "")

    return TlsFiles(default(ca, "ca.pem"), default(cert, "cert.pem"), default(key, "key.pem"), verify)
