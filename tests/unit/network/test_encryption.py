"""What the kernel is asked, to encrypt. That it is understood is seen in tests/engine, as far as the kernel has ESP."""

from __future__ import annotations

from ipaddress import ip_address

from enxame.network import encryption, xfrm
from enxame.network.encryption import Wanted
from enxame.network.xfrm import Key

HERE, THERE, ELSEWHERE = (ip_address(f"192.0.2.{number}") for number in (1, 2, 3))
KEYS = tuple(Key(number, bytes([number]) * 32) for number in (1, 2, 3))

# What `ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x2488ef9f reqid 6647416 mode transport aead
# "rfc4106(gcm(aes))" 0x97b8… 128` of iproute2 6.1 sends.
IPROUTE2 = bytes.fromhex(
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000c00002020000000000000000000000002488ef9f32000000c0000201000000000000000000000000"
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff00000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000786e650002000000000000000000000060001200726663343130362867636d28"
    "616573292900000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000a000000080000000d407948639b78d90a2b9b9f411a1bc60ef9368f3"
)


def wanted(*machines: object, keys: tuple[Key, ...] = KEYS) -> Wanted:
    return Wanted(local=HERE, port=4789, ids=frozenset({4097}), machines=frozenset(machines), keys=keys)  # type: ignore[arg-type]


def test_a_state_is_told_as_iproute2_tells_it() -> None:
    key = Key(1, bytes(range(32)))
    state = xfrm.state_of(HERE, THERE, key)
    assert state.spi == 0x2488EF9F
    assert xfrm.add_state(state, key).payload == IPROUTE2
    assert xfrm.parse_state(IPROUTE2[:224]) == state


def test_both_machines_come_to_the_same_states_and_each_direction_has_a_key_of_its_own() -> None:
    here = wanted(THERE)
    there = Wanted(local=THERE, port=4789, ids=here.ids, machines=frozenset({HERE}), keys=KEYS)
    assert here.states() == there.states()
    assert len(here.states()) == 6
    secrets = {xfrm.add_state(state, key).payload[-20:] for state, key in here.states().items()}
    assert len(secrets) == 6


def test_the_last_key_but_one_encrypts_and_all_are_understood() -> None:
    ((_, state),) = wanted(THERE).policies().items()
    assert state == xfrm.state_of(HERE, THERE, KEYS[1])
    ((_, state),) = wanted(THERE, keys=KEYS[:1]).policies().items()
    assert state == xfrm.state_of(HERE, THERE, KEYS[0])


def test_a_rotation_adds_before_it_uses_and_takes_away_last() -> None:
    before, after = wanted(THERE, keys=KEYS[:2]), wanted(THERE, keys=KEYS[1:])
    requests = encryption.corrections(before.states(), before.policies(), after)
    assert [request.what.split()[0] for request in requests] == ["encrypt"] * 3 + ["forget"] * 2
    # Who has not rotated yet understands who has.
    assert after.policies()[HERE, THERE, 4789] in before.states()


def test_machines_that_left_are_forgotten_and_nothing_else_is_touched() -> None:
    have = wanted(THERE, ELSEWHERE)
    requests = encryption.corrections(have.states(), have.policies(), wanted(THERE))
    assert [request.what for request in requests] == [
        "encrypt packets to 192.0.2.2",
        "leave packets to 192.0.2.3 alone",
        *["forget a key"] * 6,
    ]


def test_without_encrypted_networks_there_is_no_table() -> None:
    assert encryption.rules([], 4789) == ("add table inet enxame-encryption\ndelete table inet enxame-encryption\n")
    text = encryption.rules([4098, 4097], 7777)
    assert "udp dport 7777 @th,96,24 0x1001 meta mark set 0xd0c4e3" in text
    assert "udp dport 7777 @th,96,24 0x1002 meta ipsec missing drop" in text
