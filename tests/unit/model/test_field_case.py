import msgspec

from enxame.model.base import decode
from enxame.model.field_case import with_field_names
from enxame.model.service import ServiceSpec


class Inner(msgspec.Struct, rename="pascal"):
    some_name: int = 0


class Outer(msgspec.Struct, rename="pascal"):
    inner: Inner | None = None
    many: list[Inner] = []
    by_key: dict[str, Inner] = {}
    labels: dict[str, str] = {}


def test_names_are_found_in_any_case_at_any_depth() -> None:
    raw = {"INNER": {"someNAME": 1}, "many": [{"somename": 2}], "bykey": {"K": {"SomeName": 3}}}
    expected = {"Inner": {"SomeName": 1}, "Many": [{"SomeName": 2}], "ByKey": {"K": {"SomeName": 3}}}
    assert with_field_names(raw, Outer) == expected


def test_keys_of_free_maps_keep_their_case() -> None:
    assert with_field_names({"labels": {"Many": "x", "MANY": "y"}}, Outer) == {"Labels": {"Many": "x", "MANY": "y"}}


def test_the_exact_name_wins_over_another_case() -> None:
    assert with_field_names({"inner": {"SomeName": 1}, "Inner": {"SomeName": 2}}, Outer) == {"Inner": {"SomeName": 2}}


def test_values_of_a_wrong_kind_are_left_for_validation() -> None:
    assert with_field_names({"many": {"somename": 1}, "inner": 7}, Outer) == {"Many": {"somename": 1}, "Inner": 7}


def test_a_service_with_the_mode_as_docker_py_sends_it_has_its_replicas() -> None:
    spec = decode(b'{"Name": "web", "Mode": {"replicated": {"Replicas": 3}}}', ServiceSpec)
    assert spec.mode.replicated is not None
    assert spec.mode.replicated.replicas == 3
