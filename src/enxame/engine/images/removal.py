"""What removing an image means: which names go, whether the image goes, what is in the way. Pure; Docker's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from enxame.engine.images.reference import Reference
from enxame.errors import Conflict

__all__ = ["ImageUser", "Removal", "plan_removal"]


class ImageUser(NamedTuple):
    """A container that was made from an image."""

    container_id: str
    running: bool


@dataclass(frozen=True)
class Removal:
    """Names to take away, and whether the image itself goes."""

    untag: list[Reference]
    delete: bool


def plan_removal(
    ref: str,
    image_id: str,
    named: Reference | None,
    names: Sequence[Reference],
    users: Sequence[ImageUser],
    *,
    force: bool,
) -> Removal:
    """Decide. ``named`` is the name that ``ref`` is, None when it is an id; ``names`` are all names of the image.

    Raises:
        Conflict: a container or another name is in the way.
    """
    if named is None:
        if len(names) > 1 and not _one_repository(names) and not force:
            raise _undeletable(image_id, "image is referenced in multiple repositories", forceable=True)
        _check_users(image_id, users, force=force)
        return Removal(untag=list(names), delete=True)
    if not force and _one_repository(names) and users:
        raise Conflict(
            f'conflict: unable to remove repository reference "{ref}" (must force) - container '
            f"{users[0].container_id[:12]} is using its referenced image {_short(image_id)}"
        )
    untag = [named]
    rest = [name for name in names if name != named]
    if not named.digest and not any(name.name == named.name and name.tag for name in rest):
        # The digests of a repository go with its last tag.
        untag += [name for name in rest if name.name == named.name]
        rest = [name for name in rest if name.name != named.name]
    # A name was asked for and is gone: containers keep the image itself, without an error.
    delete = not rest and not (users and (not force or any(user.running for user in users)))
    return Removal(untag=untag, delete=delete)


def _one_repository(names: Sequence[Reference]) -> bool:
    """Whether at most one tag remains to be lost: all names are of one repository, with one tag among them."""
    if len(names) <= 1:
        return True
    return len({name.name for name in names}) == 1 and sum(1 for name in names if name.tag) <= 1


def _check_users(image_id: str, users: Sequence[ImageUser], *, force: bool) -> None:
    for user in users:
        if user.running:
            raise _undeletable(
                image_id, f"image is being used by running container {user.container_id[:12]}", forceable=False
            )
    if users and not force:
        raise _undeletable(
            image_id, f"image is being used by stopped container {users[0].container_id[:12]}", forceable=True
        )


def _undeletable(image_id: str, reason: str, *, forceable: bool) -> Conflict:
    how = "must be forced" if forceable else "cannot be forced"
    return Conflict(f"conflict: unable to delete {_short(image_id)} ({how}) - {reason}")


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
