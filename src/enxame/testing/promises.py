"""Promised times, as tests hold the product to them on machines of any speed."""

import os
from typing import Final

__all__ = ["SLACK", "allowed"]

#: How many times longer than promised things may take before a test fails. Promises are made for two free processors
#: and a quick disk; no test is to fail because a machine is slow or busy. ``ENXAME_TEST_SLACK=1`` holds to the letter.
SLACK: Final = float(os.environ.get("ENXAME_TEST_SLACK", "5"))


def allowed(seconds: float) -> float:
    """The longest that something may take here which takes at most ``seconds`` where promises are measured."""
    return seconds * SLACK
