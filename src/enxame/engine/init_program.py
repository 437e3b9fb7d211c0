"""The program that ``--init`` runs as a container's first process: one of those that Debian has."""

from __future__ import annotations

import os

__all__ = ["find_init_program"]

_PROGRAMS = (
    "/usr/bin/docker-init",
    "/usr/bin/tini-static",
    "/usr/bin/catatonit",
    "/usr/libexec/podman/catatonit",
    "/usr/bin/tini",
)


def find_init_program() -> str:
    """Its path; empty where none is installed."""
    return next((program for program in _PROGRAMS if os.access(program, os.X_OK)), "")
