"""``--mount type=bind,source=/a,target=/b,readonly`` → the API's Mount."""

import os
from typing import Any

from enxame.cli.options.fields import csv_fields
from enxame.cli.options.numbers import parse_bool, parse_bytes

Json = dict[str, Any]


def parse_mount(text: str) -> Json:
    """One mount. Raises ValueError with docker's words."""
    mount: Json = {"Type": "volume"}
    volume: Json = {}
    bind: Json = {}
    tmpfs: Json = {}
    for field in csv_fields(text):
        key, separator, value = field.partition("=")
        key = key.lower()
        if not separator:
            if key in {"readonly", "ro"}:
                mount["ReadOnly"] = True
            elif key == "volume-nocopy":
                volume["NoCopy"] = True
            elif key == "bind-nonrecursive":
                bind["NonRecursive"] = True
            else:
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            continue
        match key:
            case "type":
                mount["Type"] = value.lower()
            case "source" | "src":
                mount["Source"] = os.path.abspath(value) if value == "." or value.startswith("./") else value
            case "target" | "dst" | "destination":
                mount["Target"] = value
            case "readonly" | "ro":
                mount["ReadOnly"] = _flag(key, value)
            case "consistency":
                mount["Consistency"] = value.lower()
            case "bind-propagation":
                bind["Propagation"] = value.lower()
            case "bind-nonrecursive":
                bind["NonRecursive"] = _flag(key, value)
            case "bind-recursive":
                _bind_recursive(bind, value)
            case "volume-subpath":
                volume["Subpath"] = value
            case "volume-nocopy":
                volume["NoCopy"] = _flag(key, value)
            case "volume-label":
                name, _, content = value.partition("=")
                volume.setdefault("Labels", {})[name] = content
            case "volume-driver":
                volume.setdefault("DriverConfig", {})["Name"] = value
            case "volume-opt":
                name, _, content = value.partition("=")
                volume.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = content
            case "tmpfs-size":
                try:
                    tmpfs["SizeBytes"] = parse_bytes(value)
                except ValueError:
                    raise ValueError(f"invalid value for {key}: {value}") from None
            case "tmpfs-mode":
                try:
                    tmpfs["Mode"] = int(value, 8)
                except ValueError:
                    raise ValueError(f"invalid value for {key}: {value}") from None
            case _:
                raise ValueError(f"unexpected key '{key}' in '{field}'")
    if not mount["Type"]:
        raise ValueError("type is required")
    if not mount.get("Target"):
        raise ValueError("target is required")
    kind = mount["Type"]
    for options, name, needed in (
        (volume, "VolumeOptions", "volume"),
        (bind, "BindOptions", "bind"),
        (tmpfs, "TmpfsOptions", "tmpfs"),
    ):
        if options:
            if kind not in {needed, "cluster"} if needed == "volume" else kind != needed:
                raise ValueError(f"cannot mix '{needed}-*' options with mount type '{kind}'")
            mount[name] = {k: v for k, v in options.items() if v is not False}
    if volume:
        mount["VolumeOptions"].setdefault("DriverConfig", {})
    if mount.get("ReadOnly") is False:
        del mount["ReadOnly"]
    return mount


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
