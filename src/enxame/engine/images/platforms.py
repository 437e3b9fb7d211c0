"""Platforms: ``linux/amd64`` and the like, which image of several is for which. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from enxame.engine.images.archive import ARCHITECTURE
from enxame.errors import InvalidArgument, NotFound
from enxame.model.image import Descriptor, Image, ImageFile, OCIPlatform

__all__ = ["check_platform", "choose_platform", "parse_platform"]


def parse_platform(text: str) -> OCIPlatform:
    """``os/architecture[/variant]``, or this machine's platform where the text is empty.

    Raises:
        InvalidArgument: not of that form.
    """
    if not text:
        return OCIPlatform(os="linux", architecture=ARCHITECTURE)
    os_name, *rest = text.lower().split("/")
    if len(rest) > 2 or not os_name or not all(rest):
        raise InvalidArgument(f'"{text}": unknown operating system or architecture: invalid argument')
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    architecture = names.get(rest[0], rest[0]) if rest else ARCHITECTURE
    return OCIPlatform(os=os_name, architecture=architecture, variant=rest[1] if len(rest) == 2 else "")


def choose_platform(entries: Iterable[Descriptor], wanted: OCIPlatform) -> Descriptor:
    """The entry of an index that fits, the first of several.

    Raises:
        NotFound: ``no matching manifest for linux/amd64 in the manifest list entries``.
    """
    for entry in entries:
        offered = entry.platform
        if (
            offered is not None
            and (offered.os, offered.architecture) == (wanted.os, wanted.architecture)
            and (not wanted.variant or offered.variant == wanted.variant)
        ):
            return entry
    raise NotFound(f"no matching manifest for {_platform_text(wanted)} in the manifest list entries")


def check_platform(file: Image | ImageFile, name: str, wanted: OCIPlatform) -> None:
    """Raises NotFound when the image called ``name`` is for another platform."""
    actual = OCIPlatform(os=file.os, architecture=file.architecture, variant=file.variant)
    if (actual.os, actual.architecture) != (wanted.os, wanted.architecture) or (
        wanted.variant and actual.variant and actual.variant != wanted.variant
    ):
        raise NotFound(
            f"image with reference {name} was found but does not match the specified platform: "
            f"wanted {_platform_text(wanted)}, actual: {_platform_text(actual)}"
        )


def _platform_text(platform: OCIPlatform) -> str:
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)
