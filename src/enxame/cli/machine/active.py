"""Which machine the environment points at."""

import os


def is_active(url: str) -> bool:
    """Whether ``DOCKER_HOST`` (or ``ENXAME_HOST``) is this machine's URL."""
    return bool(url) and url == (os.environ.get("ENXAME_HOST") or os.environ.get("DOCKER_HOST"))
