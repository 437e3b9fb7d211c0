import re

from enxame.security.ids import base36, new_id


def test_ids_are_25_base36_characters_and_do_not_repeat():
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"[0-9a-z]{25}", each) for each in made)


def test_base36_pads_with_zeros():
    assert [base36(number, 3) for number in (0, 35, 36, 36**3 - 1, 36**3)] == ["000", "00z", "010", "zzz", "1000"]
