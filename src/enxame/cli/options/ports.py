"""Published ports: ``8080:80/tcp``, ranges, ``published=8080,target=80,mode=host``."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final

from enxame.cli.options.fields import csv_fields
from enxame.cli.options.numbers import parse_port_number

Json = dict[str, Any]
_LONG: Final = re.compile(r"\w+=\w+(,\w+=\w+)*")
_PROTOCOLS: Final = {"tcp", "udp", "sctp"}


@dataclass(frozen=True)
class Binding:
    """One port of a container on the host; an empty ``host_port`` is any free one."""

    port: int
    protocol: str
    host_ip: str
    host_port: str


def parse_range(text: str) -> tuple[int, int]:
    """``80`` or ``8000-8010``. Raises ValueError."""
    if not text:
        raise ValueError("empty string specified for ports")
    low, separator, high = text.partition("-")
    start = parse_port_number(low)
    end = parse_port_number(high) if separator else start
    if end < start:
        raise ValueError(f"Invalid range specified for the Port: {text}")
    return start, end


def parse_port_spec(text: str) -> list[Binding]:
    """``[[IP:]HOST[-END]:]PORT[-END][/PROTOCOL]``."""
    body, _, protocol = text.partition("/")
    protocol = protocol or "tcp"
    rest, _, container = body.rpartition(":")
    host_ip, host = "", rest
    if rest:
        ip, separator, host = rest.rpartition(":")
        if separator:
            host_ip = ip.strip("[]")
    if host_ip:
        try:
            ipaddress.ip_address(host_ip)
        except ValueError:
            raise ValueError(f"Invalid ip address: {host_ip}") from None
    if not container:
        raise ValueError(f"No port specified: {text}<empty>")
    try:
        start, end = parse_range(container)
    except ValueError:
        raise ValueError(f"Invalid containerPort: {container}") from None
    host_start = host_end = 0
    if host:
        try:
            host_start, host_end = parse_range(host)
        except ValueError:
            raise ValueError(f"Invalid hostPort: {host}") from None
    if protocol.lower() not in _PROTOCOLS:
        raise ValueError(f"Invalid proto: {protocol}")
    if host and end - start != host_end - host_start and start != end:
        raise ValueError(f"Invalid ranges specified for container and host Ports: {container} and {host}")
    out = []
    for offset in range(end - start + 1):
        if not host:
            host_port = ""
        elif start == end and host_end != host_start:
            host_port = f"{host_start}-{host_end}"
        else:
            host_port = str(host_start + offset)
        out.append(Binding(start + offset, protocol.lower(), host_ip, host_port))
    return out


def parse_service_port(text: str) -> list[Json]:
    """A service's ``--publish`` → the API's PortConfigs."""
    if _LONG.search(text):
        return [_long_form(text)]
    out = []
    for binding in parse_port_spec(text):
        if binding.host_ip:
            raise ValueError("hostip is not supported")
        start, end = parse_range(binding.host_port) if binding.host_port else (0, 0)
        for published in range(start, end + 1):
            config: Json = {"Protocol": binding.protocol, "TargetPort": binding.port}
            if published:
                config["PublishedPort"] = published
            out.append({**config, "PublishMode": "ingress"})
    return out


def _long_form(text: str) -> Json:
    found: Json = {}
    for field in csv_fields(text):
        key, separator, value = field.lower().partition("=")
        if not separator or not key:
            raise ValueError(f"invalid field {field}")
        match key:
            case "protocol":
                if value not in _PROTOCOLS:
                    raise ValueError(f"invalid protocol value {value}")
                found["Protocol"] = value
            case "mode":
                if value not in {"ingress", "host"}:
                    raise ValueError(f"invalid publish mode value {value}")
                found["PublishMode"] = value
            case "target":
                found["TargetPort"] = parse_port_number(value)
            case "published":
                found["PublishedPort"] = parse_port_number(value)
            case _:
                raise ValueError(f"invalid field key {key}")
    if not found.get("TargetPort"):
        raise ValueError('missing mandatory field "target"')
    config: Json = {"Protocol": found.get("Protocol", "tcp"), "TargetPort": found["TargetPort"]}
    if found.get("PublishedPort"):
        config["PublishedPort"] = found["PublishedPort"]
    return {**config, "PublishMode": found.get("PublishMode", "ingress")}


def parse_container_port(text: str) -> list[Binding]:
    """A container's ``--publish``, in either form."""
    if "=" not in text:
        return parse_port_spec(text)
    found = {"published": "", "target": "", "protocol": "tcp"}
    for field in text.split(","):
        key, separator, value = field.partition("=")
        if not separator:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{field}')")
        found[key] = value
    return parse_port_spec(f"{found['published']}:{found['target']}/{found['protocol']}")


def parse_expose(text: str) -> list[str]:
    """``--expose 80-82/udp`` → ``["80/udp", …]``."""
    if ":" in text:
        raise ValueError(f"invalid port format for --expose: {text}")
    body, _, protocol = text.partition("/")
    try:
        start, end = parse_range(body)
    except ValueError as problem:
        raise ValueError(f"invalid range format for --expose: {text}, error: {problem}") from None
    return [f"{port}/{protocol or 'tcp'}" for port in range(start, end + 1)]
