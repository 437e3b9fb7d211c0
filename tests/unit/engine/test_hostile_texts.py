"""Texts that would hold up the daemon: each is answered at once, or refused."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.engine.building.dockerfile import parse_dockerfile
from enxame.engine.create_request import check_port
from enxame.engine.images.changes import apply_changes
from enxame.engine.images.reference import parse
from enxame.engine.log_rotation import bounds_of
from enxame.engine.networks.moments import parse_moment
from enxame.engine.signals import parse_signal
from enxame.errors import InvalidArgument
from enxame.model.container import LogConfig
from enxame.model.filters import Filters
from enxame.model.image import ImageConfig

NOW = datetime(2026, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.timeout(60)  # what is quadratic takes hours

DOCKERFILES = [
    "FROM " + "--a " * 200_000 + "\n",
    "FROM " + "${a:-" * 100_000,
    "FROM a\nRUN " + "--mount=" * 60_000 + "\n",
    "FROM a\n" * 50_000,
    "FROM a AS b\n" * 30_000,
    "ARG a=" + "${a:-" * 100_000 + "\nFROM a\n",
]


@pytest.mark.parametrize("text", DOCKERFILES, ids=lambda text: text[:20])
def test_no_dockerfile_takes_more_than_linear_time(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        parse_dockerfile(text, arguments={}).renamed(lambda base: base.reference)


def test_more_instructions_than_anybody_writes_are_refused() -> None:
    assert len(parse_dockerfile("ARG a=b\n" * 4000 + "FROM a\n", arguments={}).arguments) == 4000
    with pytest.raises(InvalidArgument, match="more than 5000 instructions"):
        parse_dockerfile("ARG a=b\n" * 5000 + "FROM a\n", arguments={})


def test_values_that_double_each_other_are_refused_before_they_fill_the_memory() -> None:
    text = "ARG a0=xxxxxxxxxx\n" + "".join(f"ARG a{n + 1}=$a{n}$a{n}\n" for n in range(64)) + "FROM $a64\n"
    with pytest.raises(InvalidArgument, match="longer than 4096 characters"):
        parse_dockerfile(text, arguments={})


def test_stages_are_known_by_name_and_by_number() -> None:
    text = "FROM a AS One\nFROM one\nFROM b\nCOPY --from=0 x y\nCOPY --from=ONE x y\nCOPY --from=c x y\nFROM onetwo\n"
    found = parse_dockerfile(text, arguments={})
    assert [image.reference for image in found.images] == ["a", "b", "c", "onetwo"]
    assert "COPY --from=ours-c x y" in found.renamed(lambda base: f"ours-{base.reference}")


@pytest.mark.parametrize("text", ["1" * 200_000 + "x", "1h" * 100_000 + "x", "9" * 90, "9" * 50 + "h", "1." * 100_000])
def test_a_moment_is_short_and_in_the_calendar(text: str) -> None:
    with pytest.raises(InvalidArgument, match="failed to parse value as time or duration"):
        parse_moment(text, NOW)


@given(st.text(alphabet="0123456789.hms-:TZ+nµ ", max_size=40))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        assert parse_moment(text, NOW).tzinfo is not None


@pytest.mark.parametrize(
    "line", ["ENV " + "a=" * 100_000, "HEALTHCHECK " + "--interval=1s " * 50_000, "EXPOSE " + "1 " * 99_999]
)
def test_changes_of_an_image_are_not_endless(line: str) -> None:
    with pytest.raises(InvalidArgument, match="the changes have more than 8192 characters"):
        apply_changes(ImageConfig(), [line])


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, json.dumps({"label": [str(n) for n in range(1001)]})]
)
def test_filters_are_not_endless(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid filter"):
        Filters.parse(text)


@pytest.mark.parametrize("text", ["a-" * 50_000 + "!", "a/" * 50_000 + "!", "a__" * 30_000 + "!", "a." * 50_000 + "!"])
def test_a_reference_of_any_length_is_looked_at_once(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_is_filters_or_refused(value: Any) -> None:
    with contextlib.suppress(InvalidArgument):
        found = Filters.parse(msgspec.json.encode(value).decode())
        found.labels_match({"a": "b"})


@pytest.mark.parametrize("digits", ["1" * 100_000, "²", "٣"])
def test_what_python_does_not_read_as_a_number_is_refused_as_any_other_text(digits: str) -> None:
    for name in ("max-size", "max-file"):
        with pytest.raises(InvalidArgument):
            bounds_of(LogConfig(type="json-file", config={name: digits}))
    for text in (digits, f"RTMIN+{digits}"):
        with pytest.raises(InvalidArgument, match="Invalid signal"):
            parse_signal(text)
    with pytest.raises(InvalidArgument, match="Invalid port specification"):
        check_port(f"{digits}/tcp")
