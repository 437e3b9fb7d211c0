"""Secrets and configs: small named payloads that tasks can be given."""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Meta, Model, always
from enxame.model.cluster import Driver


class SecretSpec(Model):
    """``data`` is base64 text, never returned by the API."""

    name: str = ""
    labels: dict[str, str] = always(default_factory=dict)
    data: str = ""
    driver: Driver | None = None
    templating: Driver | None = None


class Secret(Meta):
    """A secret."""

    spec: SecretSpec = field(default_factory=SecretSpec)


class ConfigSpec(Model):
    """``data`` is base64 text."""

    name: str = ""
    labels: dict[str, str] = always(default_factory=dict)
    data: str = ""
    templating: Driver | None = None


class Config(Meta):
    """A config."""

    spec: ConfigSpec = field(default_factory=ConfigSpec)
