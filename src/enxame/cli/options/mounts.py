"""``--mount type=bind,source=/a,target=/b,readonly`` → the API's Mount."""

import os
from typing import Any

from enxame.cli.options.fields import csv_fields
from enxame.cli.options.numbers import parse_bool, parse_bytes

Json = dict[str, Any]


class _Mount:
    """A mount as its fields are read."""

    def __init__(self) -> None:
        self.mount: Json = {"Type": "volume"}
        self.volume: Json = {}
        self.bind: Json = {}
        self.tmpfs: Json = {}

    def bare(self, key: str, field: str) -> None:
        """A field without a value."""
        if key in {"readonly", "ro"}:
            self.mount["ReadOnly"] = True
        elif key == "volume-nocopy":
            self.volume["NoCopy"] = True
        elif key == "bind-nonrecursive":
            self.bind["NonRecursive"] = True
        else:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")

    def pair(self, key: str, value: str, field: str) -> None:
        """``key=value``."""
        if key.startswith("volume-"):
            self._volume(key, value, field)
        elif key.startswith("bind-"):
            self._bind(key, value, field)
        elif key.startswith("tmpfs-"):
            self._tmpfs(key, value, field)
        else:
            self._general(key, value, field)

    def _general(self, key: str, value: str, field: str) -> None:
        match key:
            case "type":
                self.mount["Type"] = value.lower()
            case "source" | "src":
                self.mount["Source"] = os.path.abspath(value) if value == "." or value.startswith("./") else value
            case "target" | "dst" | "destination":
                self.mount["Target"] = value
            case "readonly" | "ro":
                self.mount["ReadOnly"] = _flag(key, value)
            case "consistency":
                self.mount["Consistency"] = value.lower()
            case _:
                raise _unexpected(key, field)

    def _volume(self, key: str, value: str, field: str) -> None:
        name, _, content = value.partition("=")
        match key:
            case "volume-subpath":
                self.volume["Subpath"] = value
            case "volume-nocopy":
                self.volume["NoCopy"] = _flag(key, value)
            case "volume-label":
                self.volume.setdefault("Labels", {})[name] = content
            case "volume-driver":
                self.volume.setdefault("DriverConfig", {})["Name"] = value
            case "volume-opt":
                self.volume.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = content
            case _:
                raise _unexpected(key, field)

    def _bind(self, key: str, value: str, field: str) -> None:
        match key:
            case "bind-propagation":
                self.bind["Propagation"] = value.lower()
            case "bind-nonrecursive":
                self.bind["NonRecursive"] = _flag(key, value)
            case "bind-recursive":
                _bind_recursive(self.bind, value)
            case _:
                raise _unexpected(key, field)

    def _tmpfs(self, key: str, value: str, field: str) -> None:
        try:
            match key:
                case "tmpfs-size":
                    self.tmpfs["SizeBytes"] = parse_bytes(value)
                case "tmpfs-mode":
                    self.tmpfs["Mode"] = int(value, 8)
                case _:
                    raise _unexpected(key, field)
        except ValueError as problem:
            if str(problem).startswith("unexpected"):
                raise
            raise ValueError(f"invalid value for {key}: {value}") from None

    def finish(self) -> Json:
        """The API's Mount."""
        if not self.mount["Type"]:
            raise ValueError("type is required")
        if not self.mount.get("Target"):
            raise ValueError("target is required")
        kind = self.mount["Type"]
        for options, name, wanted in (
            (self.volume, "VolumeOptions", ("volume", "cluster")),
            (self.bind, "BindOptions", ("bind",)),
            (self.tmpfs, "TmpfsOptions", ("tmpfs",)),
        ):
            if options and kind not in wanted:
                raise ValueError(f"cannot mix '{wanted[0]}-*' options with mount type '{kind}'")
            if options:
                self.mount[name] = {k: v for k, v in options.items() if v is not False}
        if self.volume:
            self.mount["VolumeOptions"].setdefault("DriverConfig", {})
        if self.mount.get("ReadOnly") is False:
            del self.mount["ReadOnly"]
        return self.mount


def parse_mount(text: str) -> Json:
    """One mount. Raises ValueError with docker's words."""
    found = _Mount()
    for field in csv_fields(text):
        key, separator, value = field.partition("=")
        if separator:
            found.pair(key.lower(), value, field)
        else:
            found.bare(key.lower(), field)
    return found.finish()


def _unexpected(key: str, field: str) -> ValueError:
    return ValueError(f"unexpected key '{key}' in '{field}'")


def _flag(key: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _bind_recursive(bind: Json, value: str) -> None:
    match value:
        case "enabled":
            return
        case "disabled":
            bind["NonRecursive"] = True
        case "writable":
            bind["ReadOnlyNonRecursive"] = True
        case "readonly":
            bind["ReadOnlyForceRecursive"] = True
        case _:
            raise ValueError(
                f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
            )
