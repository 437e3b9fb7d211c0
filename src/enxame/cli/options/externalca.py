"""``--external-ca protocol=cfssl,url=https://…,cacert=FILE`` → the API's ExternalCA."""

from typing import Any

from enxame.cli.options.fields import csv_fields


def parse_external_ca(text: str) -> dict[str, Any]:
    """One certificate signing endpoint. Raises ValueError with docker's words."""
    found: dict[str, Any] = {"Options": {}}
    for field in csv_fields(text):
        key, separator, value = field.partition("=")
        if not separator:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        match key:
            case "protocol":
                if value.lower() != "cfssl":
                    raise ValueError(f"unrecognized external CA protocol {value}")
                found["Protocol"] = "cfssl"
            case "url":
                found["URL"] = value
            case "cacert":
                found["CACert"] = _certificate(value)
            case _:
                found["Options"][key] = value
    if "Protocol" not in found:
        raise ValueError("the external-ca option needs a protocol= parameter")
    if "URL" not in found:
        raise ValueError("the external-ca option needs a url= parameter")
    options = {"Options": found["Options"]} if found["Options"] else {}
    return {"Protocol": found["Protocol"], "URL": found["URL"], **options, "CACert": found.get("CACert", "")}


def _certificate(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            content = file.read()
    except OSError as problem:
        reason = f"open {path}: {(problem.strerror or '').lower()}"
        raise ValueError(f"unable to read CA cert for external CA: {reason}") from None
    except UnicodeDecodeError:
        content = ""
    if "-----BEGIN " not in content:
        raise ValueError("CA cert for external CA must be in PEM format")
    return content
