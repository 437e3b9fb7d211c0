"""Secrets and configs: small named payloads that tasks can be given."""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Meta, Model, always
from enxame.model.cluster import Driver


class PayloadSpec(Model):
    """What both have. ``data`` is base64 text."""

    name: str = ""
    labels: dict[str, str] = always(default_factory=dict)
    data: str = ""


class Payload(Meta):
    """A secret or a config."""

    spec: PayloadSpec = field(default_factory=PayloadSpec)


class SecretSpec(PayloadSpec):
    """Its ``data`` is never returned by the API."""

    driver: Driver | None = None
    templating: Driver | None = None


class Secret(Payload):
    """A secret."""

    spec: SecretSpec = field(default_factory=SecretSpec)


class ConfigSpec(PayloadSpec):
    """Its ``data`` is for all to see."""

    templating: Driver | None = None


class Config(Payload):
    """A config."""

    spec: ConfigSpec = field(default_factory=ConfigSpec)
