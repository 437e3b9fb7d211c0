"""``logs --details``: which labels and variables of a container stand before each line. Pure."""

from __future__ import annotations

from urllib.parse import quote_plus

from enxame.engine.container_record import Definition
from enxame.engine.patterns import any_matches


def describe(definition: Definition) -> str:
    """The labels and variables that the log options name, as Docker writes them: ``a=1,b=2``."""
    options = definition.host.log_config.config
    variables = dict(text.split("=", 1) for text in definition.config.env or [] if "=" in text)
    chosen = {
        **_pick(definition.config.labels, options.get("labels", ""), options.get("labels-regex", "")),
        **_pick(variables, options.get("env", ""), options.get("env-regex", "")),
    }
    return ",".join(f"{quote_plus(name)}={quote_plus(chosen[name])}" for name in sorted(chosen))


def _pick(values: dict[str, str], names: str, pattern: str) -> dict[str, str]:
    wanted = set(names.split(","))
    matches = any_matches(frozenset([pattern] if pattern else []))
    return {name: value for name, value in values.items() if name in wanted or matches(name)}
