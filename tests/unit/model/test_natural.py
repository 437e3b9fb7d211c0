from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.model.natural import natural


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("65535", 65535), ("9" * 18, 10**18 - 1)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert natural(text) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1_0", "²", "٣", "1.0", "9" * 19, "1" * 100_000])
def test_anything_else_is_none(text: str) -> None:
    assert natural(text) is None


@given(st.text(alphabet="0123456789²٣-+_ .", max_size=30))
def test_no_text_fails(text: str) -> None:
    number = natural(text)
    assert number is None or number >= 0
