"""Flags that listing commands share."""

import click

from enxame.cli.flags import many, switch, text
from enxame.cli.options.fields import parse_filter

FORMAT_HELP = (
    "Format output using a custom template: 'table': Print output in table format with column headers (default), "
    "'table TEMPLATE': Print output in table format using the given Go template, 'json': Print in JSON format, "
    "'TEMPLATE': Print output using the given Go template"
)


def format_flag(name: str = "format") -> click.Option:
    """``--format``."""
    return text(name, FORMAT_HELP)


def filter_flag(name: str = "f,filter", summary: str = "Filter output based on conditions provided") -> click.Option:
    """``--filter``; its value is a tuple of (name, value)."""
    return many(name, "filter", summary, parse_filter)


def quiet_flag(summary: str = "Only display IDs") -> click.Option:
    """``--quiet``."""
    return switch("q,quiet", summary)


def no_trunc_flag() -> click.Option:
    """``--no-trunc``."""
    return switch("no-trunc", "Do not truncate output")
