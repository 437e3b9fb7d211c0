from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.network import dns_wire
from enxame.network.dns_wire import A, Question, answer, parse_query, reverse_address

HEAD = b"\x12\x34\x01\x00\0\1\0\0\0\0"


def query(name: str, kind: int = A, extra: bytes = b"") -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    return HEAD + struct.pack("!H", bool(extra)) + labels + b"\0" + struct.pack("!HH", kind, 1) + extra


def parsed(message: bytes) -> Question:
    question = parse_query(message)
    assert question is not None
    return question


def test_name_is_told_in_lower_case_and_echoed_as_it_was_sent() -> None:
    message = query("Web.APP")
    question = parsed(message)
    assert (question.name, question.type, question.extended) == ("web.app", A, False)
    assert answer(message, question, [b"\1\2\3\4"])[12:].startswith(b"\3Web\3APP\0")


@pytest.mark.parametrize(("offered", "size"), [(100, 512), (1232, 1232), (65535, 4096)])
def test_size_of_answers_is_what_the_client_takes(offered: int, size: int) -> None:
    message = query("web", extra=struct.pack("!BHHIH", 0, dns_wire.OPT, offered, 0, 0))
    question = parsed(message)
    assert (question.size, question.extended) == (size, True)
    assert answer(message, question)[10:12] == b"\0\1"


def test_what_does_not_fit_is_left_out_and_said() -> None:
    message = query("web")
    whole = answer(message, parsed(message), [bytes(4)] * 28)
    cut = answer(message, parsed(message), [bytes(4)] * 200)
    assert not whole[2] & 2
    assert cut[2] & 2
    assert len(cut) <= 512
    assert answer(message, parsed(message), [bytes(4)] * 200, size=65535)[6:8] == b"\0\xc8"


@given(st.binary(max_size=80))
def test_noise_is_never_an_error(noise: bytes) -> None:
    for message in (noise, HEAD + noise):
        question = parse_query(message)
        assert question is None or len(question.raw) <= len(message)


@pytest.mark.parametrize("flags", [b"\x81\x00", b"\x29\x00"])
def test_answers_and_other_operations_are_no_queries(flags: bytes) -> None:
    assert parse_query(b"\x12\x34" + flags + query("web")[4:]) is None


@pytest.mark.parametrize("text", ["10.1.2.3", "fd00::1:2"])
def test_reverse_names(text: str) -> None:
    address = ip_address(text)
    assert reverse_address(address.reverse_pointer) == address


@pytest.mark.parametrize("name", ["1.2.3.in-addr.arpa", "x.2.3.4.in-addr.arpa", "a.ip6.arpa", "web"])
def test_other_names_are_no_addresses(name: str) -> None:
    assert reverse_address(name) is None
