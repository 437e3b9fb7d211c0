"""Enxame: one machine out of many. A container orchestrator with Docker Swarm's commands and API."""

from typing import Final

__version__: Final = "0.1.0"

#: Newest and oldest Engine API versions that are accepted in a request's path.
API_VERSION: Final = "1.47"
MIN_API_VERSION: Final = "1.24"
