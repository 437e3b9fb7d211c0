import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.store import etcd_records as records
from enxame.store.backend import Corrupt, Record
from enxame.store.etcd_records import Epoch, Revisions


@given(st.binary(max_size=300), st.none() | st.integers(0, 2**63))
def test_a_value_is_read_as_it_was_written(data, imported):
    value = records.encode_value(data, imported)
    found = records.decode_record("service", "a", value, 7)
    assert found == Record("service", "a", 7 if imported is None else imported, data)


@given(st.binary(max_size=100), st.booleans(), st.data())
def test_a_flipped_bit_of_a_record_is_found(data, imported, draw):
    value = bytearray(records.encode_value(data, 5 if imported else None))
    first = 13 * 8 if imported else 5 * 8
    # The tag, the checksum and the data; an imported record's old revision is covered by the copy's comparison.
    bits = list(range(5 * 8)) + list(range(first, len(value) * 8))
    at = draw.draw(st.sampled_from(bits))
    value[at // 8] ^= 1 << at % 8
    with pytest.raises(Corrupt, match="service a"):
        records.decode_record("service", "a", bytes(value), 7)


@given(st.integers(1, 2**40), st.integers(0, 2**40), st.integers(0, 2**40))
def test_revisions_go_on_from_where_the_state_came_from(anchor, base, steps):
    revisions = Revisions(anchor, base)
    assert revisions.ours(anchor) == base
    assert revisions.ours(anchor + steps) == base + steps
    assert revisions.etcd(revisions.ours(anchor + steps)) == anchor + steps
    assert revisions.ours(max(anchor - steps, 0)) == base
    assert revisions.etcd(max(base - steps, 0)) == anchor


def test_keys_name_kind_and_id():
    assert records.split_key(records.object_key("service", "a/b")) == ("service", "a/b")
    assert records.split_key(records.EPOCH) is None


def test_epochs_and_bases_are_read_as_they_were_written_or_named_damaged():
    epoch = Epoch("n1", "c", 5, 2, 7, 99)
    assert records.decode_epoch(records.encode_epoch(epoch), 100) == Epoch("n1", "c", 5, 2, 7, 100)
    assert records.decode_base(records.encode_base(17), 3) == Revisions(3, 17)
    with pytest.raises(Corrupt, match="epoch"):
        records.decode_epoch(b"\xc1", 1)
    with pytest.raises(Corrupt, match="base"):
        records.decode_base(b"\xc1", 1)
    import msgspec

    with pytest.raises(Corrupt, match="newer version"):
        records.decode_base(msgspec.msgpack.encode((2, 1)), 1)


@given(st.lists(st.integers(0, 3000), max_size=40), st.integers(1, 7))
def test_batches_keep_order_and_limits(sizes, ops):
    found = [Record("task", str(n), 1, b"x" * size) for n, size in enumerate(sizes)]
    groups = list(records.batches(found, ops=ops, size=2000))
    assert [r for group in groups for r in group] == found
    for group in groups:
        assert 1 <= len(group) <= ops
        assert len(group) == 1 or sum(len(r.data) + 128 for r in group) <= 2000
