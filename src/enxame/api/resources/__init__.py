"""One module a resource; each declares its routes."""

from __future__ import annotations

from enxame.api.resources import (
    build,
    configs,
    container_files,
    container_lifecycle,
    container_streams,
    containers,
    description,
    distribution,
    events,
    exec_sessions,
    images,
    networks,
    nodes,
    not_offered,
    secrets,
    service_logs,
    services,
    swarm,
    swarm_backup,
    system,
    tasks,
    volumes,
)
from enxame.api.routing import Routes

_MODULES = (
    build,
    configs,
    container_files,
    container_lifecycle,
    container_streams,
    containers,
    description,
    distribution,
    events,
    exec_sessions,
    images,
    networks,
    nodes,
    not_offered,
    secrets,
    service_logs,
    services,
    swarm,
    swarm_backup,
    system,
    tasks,
    volumes,
)


def all_routes() -> Routes:
    """The whole API."""
    routes = Routes()
    for module in _MODULES:
        routes.include(module.routes)
    return routes
