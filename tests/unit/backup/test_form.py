import hashlib
import io
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from enxame.backup import form
from enxame.backup.form import Damaged, Head, Item
from enxame.errors import InvalidArgument

items = st.lists(
    st.builds(
        Item,
        kind=st.sampled_from(["service", "task", "secret"]),
        id=st.text("abc123", min_size=1, max_size=25),
        revision=st.integers(1, 2**40),
        data=st.binary(max_size=200),
    ),
    max_size=20,
)


def head(found, **fields):
    counts = dict(Counter(item.kind for item in found))
    return Head("c1", "n1", 99, counts, "2026-01-02T00:00:00Z", **fields)


def packed(found, key=None, encryption=None):
    return b"".join(form.encode(head(found, encryption=encryption), found, key))


def unpacked(data, key=None):
    return form.read(io.BytesIO(data), lambda _head: key)


def encryption(secret=b"s", kind="keyfile"):
    return form.new_encryption(kind, secret, b"0123456789abcdef")


@given(items)
def test_what_was_written_is_read(found):
    assert unpacked(packed(found)).items == found


@given(items)
def test_what_was_encrypted_is_read_with_its_key_and_checked_without(found):
    described, key = encryption()
    data = packed(found, key, described)
    assert unpacked(data, key).items == found
    assert unpacked(data).items == []


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(items, st.booleans(), st.data())
def test_every_flipped_bit_is_found(found, encrypted, data):
    described, key = encryption() if encrypted else (None, None)
    whole = packed(found, key, described)
    at = data.draw(st.integers(0, len(whole) * 8 - 1))
    broken = bytearray(whole)
    broken[at // 8] ^= 1 << at % 8
    with pytest.raises((Damaged, InvalidArgument)):
        unpacked(bytes(broken), key)
    with pytest.raises((Damaged, InvalidArgument)):
        unpacked(bytes(broken))


@given(items, st.data())
def test_every_cut_is_found(found, data):
    whole = packed(found)
    with pytest.raises((Damaged, InvalidArgument)):
        unpacked(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(items, st.binary(min_size=1, max_size=10))
def test_something_after_the_end_is_found(found, surplus):
    with pytest.raises(Damaged, match="after its end"):
        unpacked(packed(found) + surplus)


@given(st.binary(max_size=300).filter(lambda data: not data.startswith(b"enxbak")))
def test_anything_else_is_no_backup(data):
    with pytest.raises(InvalidArgument, match="not a backup"):
        unpacked(data)


def test_an_encrypted_backup_shows_nothing_of_its_items():
    described, key = encryption()
    found = [Item("secret", "very-secret-name", 1, b"the password is swordfish")]
    data = packed(found, key, described)
    assert b"swordfish" not in data
    assert b"very-secret-name" not in data


def test_large_states_are_in_several_parts_that_cannot_change_places():
    found = [Item("task", f"t{n}", n + 1, bytes([n]) * 600_000) for n in range(6)]
    described, key = encryption()
    data = packed(found, key, described)
    assert unpacked(data, key).items == found
    # The two first parts have the same length: change them, with all checksums made right again.
    sealed = io.BytesIO(data)
    assert sealed.read(8)
    size = int.from_bytes(data[8:12], "big")
    first = 8 + 8 + size
    length = int.from_bytes(data[first : first + 4], "big")
    second = first + 8 + length
    assert data[second : second + 4] == data[first : first + 4]
    end = second + 8 + length
    body = data[:first] + data[second:end] + data[first:second] + data[end:-32]
    forged = body + hashlib.sha256(body).digest()
    assert unpacked(forged).items == [], "without the key the checksums are right"
    with pytest.raises(Damaged, match="part 1 does not decrypt"):
        unpacked(forged, key)


def test_a_newer_format_is_named():
    with pytest.raises(InvalidArgument, match="format 2"):
        unpacked(b"".join(form.encode(replace(head([]), format=2), [])))


def test_the_head_tells_in_the_clear_what_is_inside():
    described, key = encryption()
    found = [Item("service", "a", 1, b"x"), Item("service", "b", 1, b"x"), Item(form.FILE, "node.json", 0, b"{}")]
    assert unpacked(packed(found, key, described)).head.counts == {"service": 2, "file": 1}


def test_a_head_that_counts_wrongly_is_found():
    with pytest.raises(Damaged, match="its head says"):
        unpacked(b"".join(form.encode(head([]), [Item("service", "a", 1, b"x")])))
