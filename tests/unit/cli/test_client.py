"""The HTTP client: TLS, streams, hijacked connections, broken daemons."""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from enxame.cli.client import Client, encode_query
from enxame.cli.endpoint import TlsFiles, parse_host
from enxame.cli.errors import CliError, DaemonError, Unreachable
from enxame.cli.multiplexed import Demultiplexer
from enxame.cli.terminal import DetachKeys, parse_keys


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(cert), str(private)


def _serve(talk: Callable[[socket.socket], None], certificate: tuple[str, str] | None = None) -> int:
    """Accepts one connection on loopback and talks; the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def accept() -> None:
        with listener:
            sock, _ = listener.accept()
        sock.settimeout(10)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            try:
                sock = context.wrap_socket(sock, server_side=True)
            except OSError:
                return
        with sock:
            talk(sock)

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


@contextmanager
def _calling(url: str, tls: TlsFiles | None = None, timeout: float = 5) -> Iterator[Client]:
    client = Client(parse_host(url, tls), timeout=timeout)
    try:
        yield client
    finally:
        client.close()


def _read_head(sock: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(4096)
        if not data:
            break
        head += data
    return head


def _answer(body: bytes) -> Callable[[socket.socket], None]:
    def talk(sock: socket.socket) -> None:
        _read_head(sock)
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )

    return talk


def test_a_daemon_behind_tls_is_verified_with_its_ca(certificate):
    port = _serve(_answer(b'{"a": 1}'), certificate)
    with _calling(f"tcp://127.0.0.1:{port}", TlsFiles(ca=certificate[0])) as client:
        assert client.get("/x") == {"a": 1}


def test_a_daemon_with_an_unknown_certificate_is_refused(certificate):
    port = _serve(_answer(b"{}"), certificate)
    with _calling(f"tcp://127.0.0.1:{port}", TlsFiles()) as client, pytest.raises(Unreachable, match="TLS"):
        client.get("/x")


def test_a_daemon_that_hangs_up_is_unreachable():
    port = _serve(lambda sock: _read_head(sock) and None)
    with _calling(f"tcp://127.0.0.1:{port}") as client, pytest.raises(Unreachable):
        client.post("/x", {})


def test_a_daemon_that_does_not_answer_runs_into_the_deadline():
    done = threading.Event()
    port = _serve(lambda _: done.wait(5) and None)
    url = f"tcp://127.0.0.1:{port}"
    with _calling(url, timeout=0.1) as client, pytest.raises(Unreachable, match="did not answer in time"):
        client.get("/x")
    done.set()


def test_an_answer_cut_short_is_an_error_not_a_traceback():
    def talk(sock: socket.socket) -> None:
        _read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")

    port = _serve(talk)
    with _calling(f"tcp://127.0.0.1:{port}") as client, pytest.raises(Unreachable, match="closed unexpectedly"):
        client.get("/x")


def test_an_error_without_json_shows_its_text():
    def talk(sock: socket.socket) -> None:
        _read_head(sock)
        sock.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops")

    port = _serve(talk)
    with _calling(f"tcp://127.0.0.1:{port}") as client, pytest.raises(DaemonError, match="daemon: oops") as caught:
        client.get("/x")
    assert caught.value.status == 502


def test_json_messages_are_split_wherever_their_bytes_are():
    def talk(sock: socket.socket) -> None:
        _read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b'{"a":', b'1}{"b"', b':2}\r\n{"c":3}'):
            sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        sock.sendall(b"0\r\n\r\n")

    port = _serve(talk)
    with Client(parse_host(f"tcp://127.0.0.1:{port}"), timeout=5).stream("GET", "/events") as stream:
        assert list(stream.messages()) == [{"a": 1}, {"b": 2}, {"c": 3}]


@pytest.mark.parametrize("with_tls", [False, True])
def test_a_hijacked_connection_keeps_early_bytes_and_half_closes(certificate, with_tls):
    heard: list[bytes] = []
    ended = threading.Event()

    def talk(sock: socket.socket) -> None:
        _read_head(sock)
        sock.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly")
        heard.append(sock.recv(100))
        assert sock.recv(100) == b""
        ended.set()

    port = _serve(talk, certificate if with_tls else None)
    tls = TlsFiles(ca=certificate[0]) if with_tls else None
    hijacked = Client(parse_host(f"tcp://127.0.0.1:{port}", tls), timeout=5).hijack("/attach")
    hijacked.sock.sendall(b"typed")
    hijacked.sock.setblocking(False)
    seen = hijacked.early_bytes()
    hijacked.sock.settimeout(5)
    while len(seen) < 5:
        seen += hijacked.sock.recv(100)
    assert seen == b"early"
    hijacked.half_close()
    assert ended.wait(5)
    assert heard == [b"typed"]
    hijacked.close()


@pytest.mark.parametrize("with_tls", [False, True])
def test_a_hijacked_connection_may_have_nothing_to_say_at_first(certificate, with_tls):
    looked = threading.Event()

    def talk(sock: socket.socket) -> None:
        _read_head(sock)
        sock.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        assert looked.wait(10)
        sock.sendall(b"late")

    port = _serve(talk, certificate if with_tls else None)
    tls = TlsFiles(ca=certificate[0]) if with_tls else None
    hijacked = Client(parse_host(f"tcp://127.0.0.1:{port}", tls), timeout=5).hijack("/attach")
    hijacked.sock.setblocking(False)
    assert hijacked.early_bytes() == b""
    looked.set()
    hijacked.sock.settimeout(10)
    assert hijacked.sock.recv(100) == b"late"
    hijacked.close()


def test_queries_are_sorted_and_leave_out_what_is_not_set():
    assert encode_query({"b": True, "a": "x y", "c": None, "d": False, "e": 0}) == "a=x+y&b=1&e=0"


@pytest.mark.parametrize(
    ("url", "scheme", "address", "port"),
    [
        ("unix:///x.sock", "unix", "/x.sock", 0),
        ("/x.sock", "unix", "/x.sock", 0),
        ("tcp://h:1", "tcp", "h", 1),
        ("tcp://h", "tcp", "h", 2375),
        ("tcp://[::1]:5", "tcp", "::1", 5),
        ("h:7", "tcp", "h", 7),
    ],
)
def test_hosts(url, scheme, address, port):
    found = parse_host(url)
    assert (found.scheme, found.address, found.port) == (scheme, address, port)


@pytest.mark.parametrize("url", ["ftp://x", "tcp://h:x", "npipe://x"])
def test_hosts_that_are_none(url):
    with pytest.raises(CliError, match="unable to parse docker host"):
        parse_host(url)


def test_frames_are_put_together_from_any_pieces():
    data = b"\x01\0\0\0\0\0\0\x03out" + b"\x02\0\0\0\0\0\0\x04err!"
    demultiplexer = Demultiplexer()
    frames = [frame for i in range(len(data)) for frame in demultiplexer.feed(data[i : i + 1])]
    assert frames == [(1, b"out"), (2, b"err!")]


def test_a_stream_without_headers_is_refused():
    with pytest.raises(CliError, match="Unrecognized input header: 104"):
        Demultiplexer().feed(b"hello world")


def test_detach_keys_are_held_back_until_they_are_complete_or_not():
    keys = DetachKeys(parse_keys(""))
    assert keys.feed(b"a\x10") == (b"a", False)
    assert keys.feed(b"b") == (b"\x10b", False)
    assert keys.feed(b"\x10\x10\x11") == (b"\x10", True)


def test_detach_keys_can_be_chosen():
    assert parse_keys("ctrl-a,x,ctrl-[") == b"\x01x\x1b"
    with pytest.raises(CliError):
        parse_keys("ctrl-1")
