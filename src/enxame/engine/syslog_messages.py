"""What ``--log-driver syslog`` is told by its options, and how a line is written for a syslog server. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from enxame.engine.container_record import Definition
from enxame.errors import InvalidArgument
from enxame.model.natural import natural
from enxame.model.stream import STDERR, LogRecord

__all__ = ["SYSLOG_OPTIONS", "SyslogTarget", "message", "parse_target", "tag_of"]

SYSLOG_OPTIONS: Final = frozenset(
    {"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key"}
    | {"syslog-tls-skip-verify"}
)
_FACILITIES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("", "", "", ""),
    *(f"local{number}" for number in range(8)),
)
_INFO, _ERROR = 6, 3
_DEFAULT_PORT: Final = 514
_STREAMS: Final = frozenset({"tcp", "tcp+tls"})


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """``protocol``: unix|unixgram|udp|tcp|tcp+tls; ``host`` is a path for the first two. ``certificates``: CA, own and
    key files, empty where not given.
    """

    protocol: str
    host: str
    port: int = 0
    facility: int = 3
    format: str = ""
    certificates: tuple[str, str, str] = ("", "", "")
    verify: bool = True

    @property
    def counted(self) -> bool:
        """Messages are preceded by their length."""
        return self.format.startswith("rfc5424") and self.protocol == "tcp+tls"


def parse_target(options: Mapping[str, str]) -> SyslogTarget:
    """Where messages go. Raises InvalidArgument for options that make no sense, in Docker's words."""
    form = options.get("syslog-format", "")
    if form not in {"", "rfc3164", "rfc5424", "rfc5424micro"}:
        raise InvalidArgument("Invalid syslog format")
    protocol, host, port = _address(options.get("syslog-address", ""))
    return SyslogTarget(
        protocol=protocol,
        host=host,
        port=port,
        facility=_facility(options.get("syslog-facility", "")),
        format=form,
        certificates=(
            options.get("syslog-tls-ca-cert", ""),
            options.get("syslog-tls-cert", ""),
            options.get("syslog-tls-key", ""),
        ),
        verify=options.get("syslog-tls-skip-verify", "") in {"", "false", "0"},
    )


def _address(text: str) -> tuple[str, str, int]:
    if not text:
        return "unixgram", "/dev/log", 0
    protocol, separator, rest = text.partition("://")
    if not separator or protocol not in {"unix", "unixgram", "udp", *_STREAMS}:
        raise InvalidArgument(f"syslog-address should be in form proto://address, got {text}")
    if protocol in {"unix", "unixgram"}:
        if not rest.startswith("/"):
            raise InvalidArgument(f"syslog-address should be in form proto://address, got {text}")
        return protocol, rest, 0
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgument(f"invalid syslog-address {text}: {error}") from error
    if not host:
        raise InvalidArgument(f"syslog-address should be in form proto://address, got {text}")
    return protocol, host, port or _DEFAULT_PORT


def _facility(text: str) -> int:
    if not text:
        return _FACILITIES.index("daemon")
    if text in _FACILITIES and text:
        return _FACILITIES.index(text)
    number = natural(text)
    if number is not None and number < len(_FACILITIES):
        return number
    raise InvalidArgument("invalid syslog facility")


def tag_of(definition: Definition) -> str:
    """The name that the container's lines go by: its short id, or what the option ``tag`` says."""
    values = {
        "ID": definition.id[:12],
        "FullID": definition.id,
        "Name": definition.name,
        "ImageName": definition.image,
        "ImageFullID": definition.image_id,
        "ImageID": definition.image_id.removeprefix("sha256:")[:12],
        "DaemonName": "enxamed",
    }
    template = definition.host.log_config.config.get("tag", "") or "{{.ID}}"
    return re.sub(r"{{\s*\.(\w+)\s*}}", lambda match: values.get(match[1], match[0]), template)


def message(target: SyslogTarget, record: LogRecord, *, tag: str, hostname: str, pid: int) -> bytes:
    """One line as the server wants it."""
    priority = target.facility * 8 + (_ERROR if record.stream == STDERR else _INFO)
    base, _, fraction = record.timestamp.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(base).replace(tzinfo=UTC)
    name = f"enxamed/{tag}"
    match target.format:
        case "rfc5424" | "rfc5424micro":
            digits = f".{fraction[:6]}" if target.format.endswith("micro") else ""
            head = f"<{priority}>1 {base}{digits}Z {hostname} {name} {pid} {name} - "
        case "rfc3164":
            head = f"<{priority}>{moment:%b %e %H:%M:%S} {hostname} {name}[{pid}]: "
        case _:
            head = f"<{priority}>{moment:%b %e %H:%M:%S} {name}[{pid}]: "
    text = head.encode() + record.data.rstrip(b"\n") + b"\n"
    return b"%d %s" % (len(text), text) if target.counted else text
