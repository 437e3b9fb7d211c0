"""Names of images: reading, normalising and shortening them as Docker does. Pure.

``nginx`` is familiar for ``docker.io/library/nginx:latest``. The grammar and the error texts are those of Docker's
distribution/reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from enxame.errors import InvalidArgument

__all__ = ["DEFAULT_DOMAIN", "DEFAULT_TAG", "Reference", "is_digest", "parse", "parse_repository"]

DEFAULT_DOMAIN: Final = "docker.io"
DEFAULT_TAG: Final = "latest"
_LEGACY_DOMAIN: Final = "index.docker.io"
_OFFICIAL: Final = "library/"
_NAME_LIMIT: Final = 255

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_PATH_PART}(?:/{_PATH_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE: Final = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_PATH})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_TAG_ONLY: Final = re.compile(_TAG)
#: Characters: of a domain, a path, a tag and a digest.
_LONGEST: Final = 1024
_HEX_ID: Final = re.compile(r"[0-9a-f]{64}")
_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised name. ``tag`` and ``digest`` are empty where the text had none."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The repository with its registry: ``docker.io/library/nginx``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: ``nginx``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(_OFFICIAL)
        if "/" not in rest:
            return rest
        return self.name if _is_domain(self.path.partition("/")[0]) else self.path

    @property
    def familiar(self) -> str:
        """The whole reference as people write it: ``nginx:latest``."""
        return self.familiar_name + self._suffix

    def __str__(self) -> str:
        return self.name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def tagged(self) -> Reference:
        """This reference with the default tag, where it says neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    def canonical(self, digest: str) -> Reference:
        """The repository at ``digest``, without tag."""
        return replace(self, tag="", digest=digest)


def parse(text: str) -> Reference:
    """Read what a user wrote as the name of an image.

    Raises:
        InvalidArgument: ``invalid reference format`` and its relatives.
    """
    if len(text) > _LONGEST:
        raise InvalidArgument("invalid reference format")
    if _HEX_ID.fullmatch(text):
        raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    # The digest may hold capitals by the grammar; the repository may not, and that has its own message.
    repository = remainder.split("@", 1)[0].split(":", 1)[0]
    if repository != repository.lower():
        raise InvalidArgument("invalid reference format: repository name must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidArgument("invalid reference format")
    path, tag, digest = match["path"], match["tag"] or "", match["digest"] or ""
    if match["domain"] != domain:
        raise InvalidArgument("invalid reference format")
    if len(domain) + 1 + len(path) > _NAME_LIMIT:
        raise InvalidArgument(f"repository name must not be more than {_NAME_LIMIT} characters")
    if digest:
        _check_digest(digest)
    return Reference(domain, path, tag, digest)


def parse_repository(repository: str, tag: str = "") -> Reference:
    """Read the ``repo`` and ``tag`` of an API call: a name to be given to an image, never a digest.

    Raises:
        InvalidArgument: not a name, not a tag, or a digest (``refusing to create a tag with a digest reference``).
    """
    reference = parse(repository)
    if reference.digest:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    if tag:
        if not _TAG_ONLY.fullmatch(tag):
            raise InvalidArgument("invalid tag format")
        reference = replace(reference, tag=tag)
    return reference.tagged()


def is_digest(text: str) -> bool:
    """Whether the text is a whole ``sha256:<64 hex>``."""
    return _SHA256.fullmatch(text) is not None


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash or not _is_domain(first):
        domain, remainder = DEFAULT_DOMAIN, text
    else:
        domain, remainder = first, rest
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _is_domain(first: str) -> bool:
    """Whether the part before the first slash is a registry, by the looks of it."""
    return any(mark in first for mark in ".:") or first == "localhost" or first.lower() != first


def _check_digest(digest: str) -> None:
    algorithm, _, encoded = digest.partition(":")
    lengths = {"sha256": 64, "sha384": 96, "sha512": 128}
    if algorithm not in lengths:
        raise InvalidArgument("unsupported digest algorithm")
    if len(encoded) != lengths[algorithm]:
        raise InvalidArgument("invalid checksum digest length")
    if encoded != encoded.lower():
        raise InvalidArgument("invalid checksum digest format")
