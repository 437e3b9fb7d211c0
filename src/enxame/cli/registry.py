"""Credentials for registries, from docker's own config file (``$DOCKER_CONFIG/config.json``) and its helpers."""

import base64
import json
import os
from typing import Any, Final

_HUB: Final = "https://index.docker.io/v1/"


def registry_of(image: str) -> str:
    """The key of an image's registry in the config file."""
    first, separator, _ = image.partition("/")
    if separator and ("." in first or ":" in first or first == "localhost"):
        return _HUB if first in {"docker.io", "index.docker.io"} else first
    return _HUB


def load_config() -> dict[str, Any]:
    """The config file's content; empty when there is none or it is broken."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def encoded_auth(image: str) -> str:
    """The X-Registry-Auth header's value (base64url of JSON); empty without credentials."""
    credentials = _credentials(load_config(), registry_of(image))
    if not credentials:
        return ""
    return base64.urlsafe_b64encode(json.dumps(credentials).encode()).decode()


def _credentials(config: dict[str, Any], registry: str) -> dict[str, str]:
    helper = (config.get("credHelpers") or {}).get(registry) or config.get("credsStore")
    if helper:
        found = _ask_helper(helper, registry)
        if found:
            return found
    for key, entry in (config.get("auths") or {}).items():
        if key == registry or key.removeprefix("https://").removeprefix("http://").split("/")[0] == registry:
            return _from_entry(entry, registry)
    return {}


def _from_entry(entry: dict[str, str], registry: str) -> dict[str, str]:
    if entry.get("identitytoken"):
        return {"identitytoken": entry["identitytoken"], "serveraddress": registry}
    try:
        user, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
    except ValueError:
        return {}
    user, password = entry.get("username") or user, entry.get("password") or password.rstrip("\0")
    return {"username": user, "password": password, "serveraddress": registry} if user else {}


def _ask_helper(helper: str, registry: str) -> dict[str, str]:
    import subprocess

    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=registry,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    if found.get("Username") == "<token>":
        return {"identitytoken": found.get("Secret", ""), "serveraddress": registry}
    return {"username": found.get("Username", ""), "password": found.get("Secret", ""), "serveraddress": registry}
