"""Answers that are only an id."""

from __future__ import annotations

from enxame.model.base import Model, always


class IdResponse(Model):
    """Of ``POST /secrets/create`` and ``/configs/create``."""

    id: str = always(default="")


class ExecCreated(Model):
    """Of ``POST /containers/{id}/exec``."""

    id: str = always(default="", name="Id")


class NetworkCreated(Model):
    """Of ``POST /networks/create``."""

    id: str = always(default="", name="Id")
    warning: str = always(default="")
