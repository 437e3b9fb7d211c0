"""A small evaluator for Go's text/template, as far as ``--format`` needs it."""

from enxame.cli.gotemplate.functions import FUNCTIONS, HEADER_FUNCTIONS
from enxame.cli.gotemplate.template import Template

__all__ = ["FUNCTIONS", "HEADER_FUNCTIONS", "Template"]
