"""Networks, secrets, configs and credential specs in flags → the API's references (still by name)."""

from typing import Any

from enxame.cli.options.fields import csv_fields

Json = dict[str, Any]


def parse_network(text: str) -> Json:  # noqa: C901 - one case for each key
    """``NAME`` or ``name=NAME,alias=A,driver-opt=k=v,ip=…`` → target, aliases, driver options and addresses."""
    if "=" not in text:
        return {"Target": text}
    out: Json = {"Target": ""}
    aliases: list[str] = []
    options: dict[str, str] = {}
    for field in csv_fields(text):
        key, separator, value = field.partition("=")
        key, value = key.strip().lower(), value.strip()
        if not separator:
            raise ValueError(f"invalid field {field}")
        match key:
            case "name":
                out["Target"] = value
            case "alias":
                aliases.append(value)
            case "driver-opt":
                name, separator, content = value.partition("=")
                if not separator or not name:
                    raise ValueError("invalid key value pair format in driver options")
                options[name.strip().lower()] = content.strip()
            case "ip":
                out["IPv4Address"] = value
            case "ip6":
                out["IPv6Address"] = value
            case "mac-address":
                out["MacAddress"] = value
            case "link-local-ip":
                out.setdefault("LinkLocalIPs", []).append(value)
            case "gw-priority":
                out["GwPriority"] = int(value)
            case _:
                raise ValueError(f"invalid field key {key}")
    if not out["Target"]:
        raise ValueError("network name/id is not specified")
    if aliases:
        out["Aliases"] = aliases
    if options:
        out["DriverOpts"] = options
    return out


def _file_reference(text: str, kind: str) -> Json:
    target = {"Name": "", "UID": "0", "GID": "0", "Mode": 0o444}
    fields = csv_fields(text)
    if len(fields) == 1 and "=" not in fields[0]:
        target["Name"] = fields[0]
        return {"File": target, f"{kind}ID": "", f"{kind}Name": fields[0]}
    source = ""
    for field in fields:
        key, separator, value = field.partition("=")
        key = key.strip().lower()
        if not separator:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        match key:
            case "source" | "src":
                source = value
            case "target":
                target["Name"] = value
            case "uid":
                target["UID"] = value
            case "gid":
                target["GID"] = value
            case "mode":
                try:
                    target["Mode"] = int(value, 0) if not value.startswith("0") else int(value, 8)
                except ValueError:
                    raise ValueError(
                        f'invalid mode specified: strconv.ParseUint: parsing "{value}": invalid syntax'
                    ) from None
            case _:
                raise ValueError(
                    f"invalid field in {kind.lower()} request: {key}"
                    if kind == "Secret"
                    else f"invalid field in config request: {key}"
                )
    if not source:
        raise ValueError("source is required")
    target["Name"] = target["Name"] or source
    return {"File": target, f"{kind}ID": "", f"{kind}Name": source}


def parse_secret(text: str) -> Json:
    """``NAME`` or ``source=NAME,target=…,uid=…,gid=…,mode=…``."""
    return _file_reference(text, "Secret")


def parse_config(text: str) -> Json:
    """As ``parse_secret``."""
    return _file_reference(text, "Config")


def parse_credential_spec(text: str) -> Json:
    """``config://``, ``file://`` or ``registry://``; empty removes."""
    for prefix, key in (("config://", "Config"), ("file://", "File"), ("registry://", "Registry")):
        if text.startswith(prefix):
            return {"Config": "", "File": "", "Registry": "", key: text.removeprefix(prefix)}
    if text:
        raise ValueError(
            'invalid credential spec: value must be prefixed with "config://", "file://", or "registry://"'
        )
    return {}


def parse_placement_preference(text: str) -> Json:
    """``spread=node.labels.zone``."""
    strategy, separator, descriptor = text.partition("=")
    if not separator or not strategy:
        raise ValueError('placement preference must be of the format "<strategy>=<arg>"')
    if strategy != "spread":
        raise ValueError(f"unsupported placement preference {strategy} (only spread is supported)")
    return {"Spread": {"SpreadDescriptor": descriptor}}
