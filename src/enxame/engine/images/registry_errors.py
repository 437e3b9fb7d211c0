"""What skopeo says of a registry's refusal, in Docker's words. Pure."""

from __future__ import annotations

import json
import re
from typing import Final

from enxame.engine.images.reference import Reference
from enxame.errors import EnxameError, NotFound, PermissionDenied, Unauthenticated

__all__ = ["UNREACHABLE", "push_error", "registry_error"]

UNREACHABLE: Final = (
    'Get "{url}": net/http: request canceled while waiting for connection '
    "(Client.Timeout exceeded while awaiting headers)"
)
_FATAL: Final = re.compile(r'level=fatal msg=("(?:[^"\\]|\\.)*")')
_REQUEST: Final = re.compile(r'(?:Get|Head|Post) "https?://.*', re.DOTALL)


def registry_error(stderr: str, reference: Reference) -> EnxameError:
    """The error that ``docker pull`` would give."""
    text = _message(stderr)
    lower = text.lower()
    if "manifest unknown" in lower or ("not found" in lower and "manifest" in lower):
        return NotFound(f"manifest for {reference.familiar} not found: manifest unknown: manifest unknown")
    if "name unknown" in lower or "repository name not known" in lower or "404 (not found)" in lower:
        return NotFound(
            f"repository {reference.familiar_name} not found: name unknown: repository name not known to registry"
        )
    if any(
        sign in lower for sign in ("unauthorized", "denied", "authentication required", "invalid username/password")
    ):
        return NotFound(
            f"pull access denied for {reference.familiar_name}, repository does not exist or may require "
            "'docker login': denied: requested access to the resource is denied"
        )
    if "no space left on device" in lower:
        return EnxameError(f"write: no space left on device (while fetching {reference.familiar})")
    request = _REQUEST.search(text)
    if request:
        return EnxameError(request[0])
    if "toomanyrequests" in lower or "too many requests" in lower:
        return EnxameError(f"toomanyrequests: {text}")
    return EnxameError(text)


def push_error(stderr: str, reference: Reference) -> EnxameError:
    """The error that ``docker push`` would give."""
    text = _message(stderr)
    lower = text.lower()
    if "unauthorized" in lower or "authentication required" in lower or "invalid username/password" in lower:
        return Unauthenticated("unauthorized: authentication required")
    if "denied" in lower:
        return PermissionDenied("denied: requested access to the resource is denied")
    return registry_error(stderr, reference)


def _message(stderr: str) -> str:
    found = _FATAL.findall(stderr)
    if found:
        try:
            return str(json.loads(found[-1]))
        except ValueError:
            return str(found[-1].strip('"'))
    lines = stderr.strip().splitlines()
    return lines[-1] if lines else "skopeo failed without a word"
