"""Names of images as users write them and as the API takes them."""

import re
from typing import Any, Final

from enxame.cli.client import Client, quoted
from enxame.cli.errors import CliError, DaemonError

_PATH: Final = re.compile(r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$")
_TAG: Final = re.compile(r"^\w[\w.-]{0,127}$", re.ASCII)
_HEX_ID: Final = re.compile(r"^(sha256:)?[0-9a-f]{64}$")
_DOMAIN: Final = re.compile(
    r"^(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|\[[0-9a-fA-F:]+\]|[A-Za-z0-9-]+(?=:\d))(:\d+)?$"
)


class InvalidReference(ValueError):
    """No image has such a name."""


def split_reference(image: str) -> tuple[str, str, str]:
    """(repository, tag, digest); tag and digest may be empty. Raises InvalidReference."""
    body, _, digest = image.partition("@")
    name, tag = body, ""
    head, separator, tail = body.rpartition(":")
    if separator and "/" not in tail:
        name, tag = head, tail
    domain, separator, path = name.partition("/")
    if not separator or not (_DOMAIN.match(domain) or domain.lower() != domain):
        path = name
    if _HEX_ID.match(image) and not image.startswith("sha256:"):
        raise InvalidReference(f"invalid repository name ({image}), cannot specify 64-byte hexadecimal strings")
    if not _PATH.match(path) or body.endswith(":") or (tag and not _TAG.match(tag)):
        lowered = path.lower()
        if path != lowered and _PATH.match(lowered):
            raise InvalidReference("invalid reference format: repository name must be lowercase")
        raise InvalidReference("invalid reference format")
    if "@" in image and not re.match(r"^[a-z0-9+._-]+:[0-9a-f]{32,}$", digest):
        raise InvalidReference("invalid reference format")
    return name, tag, digest


def with_tag(image: str) -> str:
    """The name with ``:latest`` when it has neither tag nor digest, and without Docker Hub's long prefix."""
    name, tag, digest = split_reference(image)
    for prefix in ("docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/"):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    if not tag and not digest:
        tag = "latest"
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def pin_digest(client: Client, spec: dict[str, Any], auth: str) -> str:
    """Asks the registry for the image's digest and platforms and writes them into a service's spec.

    Returns a warning for the user when the registry could not be asked.
    """
    container = spec["TaskTemplate"]["ContainerSpec"]
    image = container["Image"]
    if "@" in image:
        return ""
    headers = {"X-Registry-Auth": auth} if auth else {}
    try:
        found = client.call("GET", f"/distribution/{quoted(image)}/json", headers=headers)
    except DaemonError:
        return (
            f"image {image} could not be accessed on a registry to record\n"
            f"its digest. Each node will access {image} independently,\n"
            "possibly leading to different nodes running different\n"
            "versions of the image.\n"
        )
    digest = found["Descriptor"]["digest"]
    container["Image"] = f"{image}@{digest}"
    platforms = [
        {k: v for k, v in (("Architecture", p.get("architecture", "")), ("OS", p.get("os", ""))) if v}
        for p in found.get("Platforms") or []
    ]
    if platforms:
        spec["TaskTemplate"].setdefault("Placement", {})["Platforms"] = platforms
    return ""


def normal_service_image(spec: dict[str, Any]) -> None:
    """Adds the default tag to a spec's image; what is no name is left for the daemon to refuse."""
    container = spec.get("TaskTemplate", {}).get("ContainerSpec") or {}
    try:
        if container.get("Image"):
            container["Image"] = with_tag(container["Image"])
    except InvalidReference:
        return


def checked(image: str) -> str:
    """``image`` itself. Raises CliError when it cannot be a name."""
    try:
        split_reference(image)
    except InvalidReference as problem:
        raise CliError(str(problem)) from None
    return image
