"""Batches of a log file as clients get them: the quick way says the same as the slow one."""

import itertools
import random

import pytest

from enxame.engine.log_rendering import LogRenderer
from enxame.engine.logs import LineJoiner, passing
from enxame.model.stream import LogOptions

STAMP = "2024-02-29T23:59:58.123456789"


def line(text, stream="stdout", kind="F", zone="+00:00"):
    return f"{STAMP}{zone} {stream} {kind} {text}\n".encode()


def slowly(data, options, *, framed, stamps):
    joiner = LineJoiner()
    out = b""
    for record in passing([*joiner.feed(data), *joiner.finish()], options):
        text = (f"{record.timestamp} ".encode() if stamps else b"") + record.data
        out += (bytes([record.stream, 0, 0, 0]) + len(text).to_bytes(4, "big") if framed else b"") + text
    return out


def rendered(data, options, size, **how):
    renderer = LogRenderer(options, **how)
    pieces = [renderer.feed(data[begin : begin + size]) for begin in range(0, len(data), size)]
    return b"".join(pieces) + renderer.finish()


LOGS = {
    "one stream": b"".join(line(f"text {n}") for n in range(50)),
    "both streams": b"".join(line(f"text {n}", "stderr" if n % 3 else "stdout") for n in range(50)),
    "empty lines": line("") * 5,
    "parts": line("a" * 8000, kind="P") + line("b" * 8000, kind="P") + line("end") + line("next"),
    "two parts": (line("a") + line("b", kind="P") + line("c") + line("d")) * 3 + line("e", kind="P") + line("f"),
    "the mark in a text": line("x stdout P y") + line("z stdout P ", kind="P") + line("end"),
    "parts of both": line("a", kind="P") + line("x", "stderr", "P") + line("b") + line("y", "stderr"),
    "an open end": line("a") + line("no newline", kind="P"),
    "another zone": line("a", zone="-03:00") * 3,
    "torn": line("a") + b"2024-02\n" + line("b"),
    "looks like a prefix": line(f"x {STAMP}+00:00 stdout F y") * 3,
    "carriage returns": line("a\rb\r") * 3,
}


@pytest.mark.parametrize("log", list(LOGS.values()), ids=list(LOGS))
@pytest.mark.parametrize(("framed", "stamps"), list(itertools.product([True, False], repeat=2)))
@pytest.mark.parametrize("options", [LogOptions(), LogOptions(stderr=False), LogOptions(stdout=False)])
@pytest.mark.parametrize("size", [7, 100, 1 << 20])
def test_all_ways_say_the_same(log, framed, stamps, options, size):
    expected = slowly(log, options, framed=framed, stamps=stamps)
    assert rendered(log, options, size, framed=framed, stamps=stamps) == expected


def test_any_mixture_comes_out_as_line_by_line():
    chance = random.Random(7)
    for _ in range(200):
        log = b"".join(
            line("x" * chance.randrange(60), chance.choice(["stdout", "stderr"]), chance.choice("FFFP"))
            for _ in range(chance.randrange(40))
        )
        how = {"framed": chance.random() < 0.5, "stamps": chance.random() < 0.5}
        assert rendered(log, LogOptions(), chance.randrange(1, 500), **how) == slowly(log, LogOptions(), **how)


def test_details_stand_after_the_time():
    renderer = LogRenderer(LogOptions(), framed=False, stamps=True, details="a=1,b=2")
    assert renderer.feed(line("text")) == f"{STAMP}Z a=1,b=2 text\n".encode()


def test_a_time_window_is_kept():
    log = line("old").replace(b"2024", b"2020") + line("new")
    assert LogRenderer(LogOptions(since=1_650_000_000.0), framed=False).feed(log) == b"new\n"
    assert LogRenderer(LogOptions(until=1_650_000_000.0), framed=False).feed(log) == b"old\n"
