"""The page on the engine says of every endpoint what the routes say."""

import re
from pathlib import Path

import pytest

from enxame.api.resources import all_routes

PAGE = Path(__file__).parents[3] / "docs" / "engine.md"
ROWS = {
    match["endpoint"]: (match["state"], match["why"].strip())
    for match in re.finditer(
        r"^\| `(?P<endpoint>[A-Z]+ /\S*)` \| (?P<state>[a-z ]+) \|(?P<why>.*)\|$", PAGE.read_text(), re.M
    )
}
OPERATIONS = {f"{operation.method} {operation.path}": operation for operation in all_routes().operations}


def test_the_page_has_a_row_for_every_endpoint_and_for_no_other() -> None:
    assert sorted(ROWS) == sorted(OPERATIONS)


@pytest.mark.parametrize("endpoint", OPERATIONS)
def test_a_row_tells_what_the_route_does(endpoint: str) -> None:
    state, why = ROWS[endpoint]
    assert (state == "left out") is not OPERATIONS[endpoint].offered, f"edit the row of {endpoint} in docs/engine.md"
    assert state in ("works", "differs", "left out")
    assert why or state == "works"
