"""conmon's log lines back to what was written."""

from hypothesis import given
from hypothesis import strategies as st

from enxame.engine.log_file import tail_offset
from enxame.engine.logs import LineJoiner, to_seconds, utc_timestamp
from enxame.model.stream import LogRecord

WHEN = "2026-11-22T03:04:08.580000001+00:00"


def line(text, kind="F", stream="stdout"):
    return f"{WHEN} {stream} {kind} {text}\n".encode()


def test_parts_are_joined_for_each_stream():
    data = line("a", "P") + line("x", "P", "stderr") + line("b") + line("y", stream="stderr")
    assert LineJoiner().feed(data) == [LogRecord(1, WHEN, b"ab\n", WHEN), LogRecord(2, WHEN, b"xy\n", WHEN)]


def test_a_torn_line_is_skipped_and_an_unfinished_one_comes_last():
    joiner = LineJoiner()
    assert joiner.feed(b"garbage\n" + line("rest", "P")) == []
    assert joiner.finish() == [LogRecord(1, WHEN, b"rest", WHEN)]


@given(st.lists(st.text(alphabet="ab é\t", max_size=20), max_size=8), st.integers(min_value=1, max_value=7))
def test_any_cut_of_the_file_gives_the_same_lines(texts, size):
    data = b"".join(line(text) for text in texts)
    joiner = LineJoiner()
    records = [r for i in range(0, len(data), size) for r in joiner.feed(data[i : i + size])]
    assert [r.data for r in records] == [f"{text}\n".encode() for text in texts]


@given(
    st.lists(st.tuples(st.text(alphabet="abc", max_size=5), st.integers(min_value=0, max_value=3)), max_size=12),
    st.integers(min_value=0, max_value=14),
)
def test_the_tail_is_the_last_lines_with_all_their_parts(lines, wanted):
    data = b"".join(b"".join(line("p", "P") for _ in range(parts)) + line(text) for text, parts in lines)
    start, found = tail_offset(data, wanted)
    expected = [f"{'p' * parts}{text}\n".encode() for text, parts in lines]
    assert found == min(wanted, len(lines))
    assert [r.data for r in LineJoiner().feed(data[start:])] == (expected[-wanted:] if wanted else [])


def test_local_times_become_utc_with_all_their_digits():
    assert utc_timestamp("2026-11-22T03:04:08.123456789+02:30") == "2026-11-22T00:34:08.123456789Z"
    assert utc_timestamp(WHEN) == "2026-11-22T03:04:08.580000001Z"
    assert to_seconds("1970-01-01T00:00:01.5Z") == 1.5
