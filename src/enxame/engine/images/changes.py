"""The ``changes`` of import and commit: Dockerfile instructions applied to an image's configuration. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from enxame.errors import InvalidArgument
from enxame.model.container import Empty, HealthConfig
from enxame.model.image import ImageConfig
from enxame.model.natural import natural

__all__ = ["apply_changes"]

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PORT: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_SHELL: Final = ["/bin/sh", "-c"]
#: Characters of all changes together.
_LONGEST: Final = 8192


def apply_changes(config: ImageConfig, changes: Iterable[str]) -> ImageConfig:
    """The configuration with the instructions applied in order.

    Raises:
        InvalidArgument: an instruction that is unknown, not allowed here, or malformed.
    """
    lines = list(changes)
    if sum(map(len, lines)) > _LONGEST:
        raise InvalidArgument(f"the changes have more than {_LONGEST} characters")
    for line in lines:
        text = line.strip()
        if not text:
            continue
        word, _, rest = text.partition(" ")
        instruction = _INSTRUCTIONS.get(word.upper())
        if instruction is None:
            raise InvalidArgument(f"{word.lower()} is not a valid change command")
        if not rest.strip():
            raise InvalidArgument(f"{word.upper()} requires at least one argument")
        config = msgspec.structs.replace(config, **instruction(config, rest.strip()))
    return config


def _command(config: ImageConfig, rest: str) -> list[str]:
    words = _json_words(rest)
    return words if words is not None else [*(config.shell or _SHELL), rest]


def _json_words(rest: str) -> list[str] | None:
    if not rest.startswith("["):
        return None
    try:
        return msgspec.json.decode(rest, type=list[str])
    except msgspec.DecodeError:
        return None


def _pairs(name: str, rest: str) -> dict[str, str]:
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise InvalidArgument(f"{name}: {error}") from error
    if "=" not in words[0]:  # the old form: NAME the rest of the line
        key, _, value = rest.partition(" ")
        if not value:
            raise InvalidArgument(f"{name} must have two arguments")
        return {key: value.strip()}
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgument(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        if not key:
            raise InvalidArgument(f"{name} names can not be blank")
        pairs[key] = value
    return pairs


def _env(config: ImageConfig, rest: str) -> dict[str, Any]:
    env = dict.fromkeys(config.env or [])
    for key, value in _pairs("ENV", rest).items():
        for known in [entry for entry in env if entry.partition("=")[0] == key]:
            del env[known]
        env[f"{key}={value}"] = None
    return {"env": list(env)}


def _expose(config: ImageConfig, rest: str) -> dict[str, Any]:
    ports = dict(config.exposed_ports)
    for word in rest.split():
        match = _PORT.fullmatch(word)
        if match is None:
            raise InvalidArgument(f"invalid containerPort: {word}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 < first <= last <= 65535:
            raise InvalidArgument(f"invalid containerPort: {word}")
        ports.update({f"{port}/{match[3] or 'tcp'}": Empty() for port in range(first, last + 1)})
    return {"exposed_ports": ports}


def _volume(config: ImageConfig, rest: str) -> dict[str, Any]:
    words = _json_words(rest)
    return {"volumes": {**(config.volumes or {}), **{path: Empty() for path in words or rest.split()}}}


def _workdir(config: ImageConfig, rest: str) -> dict[str, Any]:
    import posixpath

    return {"working_dir": posixpath.normpath(posixpath.join("/", config.working_dir, rest))}


def _healthcheck(_config: ImageConfig, rest: str) -> dict[str, Any]:
    options: dict[str, int] = {}
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        rest = rest.lstrip()
        name, _, value = option[2:].partition("=")
        field = name.replace("-", "_")
        if field == "retries" and (number := natural(value)) is not None:
            options[field] = number
        elif field in {"interval", "timeout", "start_period", "start_interval"}:
            options[field] = _duration(value)
        else:
            raise InvalidArgument(f"Unknown flag: {name}")
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE":
        return {"healthcheck": HealthConfig(test=["NONE"])}
    if kind.upper() != "CMD" or not command.strip():
        raise InvalidArgument(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    words = _json_words(command.strip())
    test = ["CMD", *words] if words is not None else ["CMD-SHELL", command.strip()]
    return {"healthcheck": HealthConfig(test=test, **options)}


def _duration(text: str) -> int:
    pieces = list(_DURATION.finditer(text))
    if not pieces or "".join(piece[0] for piece in pieces) != text:
        raise InvalidArgument(f'invalid duration "{text}"')
    return int(sum(float(piece[1]) * _UNITS[piece[2]] for piece in pieces))


def _shell(_config: ImageConfig, rest: str) -> dict[str, Any]:
    words = _json_words(rest)
    if words is None:
        raise InvalidArgument("SHELL requires the arguments to be in JSON form")
    return {"shell": words}


_INSTRUCTIONS: Final[dict[str, Callable[[ImageConfig, str], dict[str, Any]]]] = {
    "CMD": lambda config, rest: {"cmd": _command(config, rest)},
    "ENTRYPOINT": lambda config, rest: {"entrypoint": _command(config, rest)},
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda config, rest: {"labels": {**config.labels, **_pairs("LABEL", rest)}},
    "ONBUILD": lambda config, rest: {"on_build": [*(config.on_build or []), rest]},
    "SHELL": _shell,
    "STOPSIGNAL": lambda _config, rest: {"stop_signal": rest},
    "USER": lambda _config, rest: {"user": rest},
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
