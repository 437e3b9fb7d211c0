"""Secrets and configs keep to the same rules."""

import base64

import pytest
from msgspec.structs import replace

from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound, Unimplemented
from enxame.model.cluster import Driver
from enxame.model.filters import Filters
from enxame.model.secret import ConfigSpec, SecretSpec
from enxame.model.service import ConfigReference, ContainerSpec, SecretReference, Service, ServiceSpec, TaskSpec

INVALID = "rpc error: code = InvalidArgument desc = "


def data(size):
    return base64.b64encode(b"x" * size).decode()


class Kind:
    def __init__(self, noun, spec, reference, limit):
        self.noun, self.spec, self.reference, self.limit = noun, spec, reference, limit

    def control(self, manager):
        return getattr(manager, self.noun + "s")

    def new(self, name="sec1", size=5, **fields):
        return self.spec(name=name, data=data(size), **fields)

    def user(self, name, object_id):
        ref = self.reference(**{f"{self.noun}_id": object_id, f"{self.noun}_name": "sec1"})
        container = ContainerSpec(image="i", **{f"{self.noun}s": [ref]})
        return Service(id=name, spec=ServiceSpec(name=name, task_template=TaskSpec(container_spec=container)))


@pytest.fixture(
    params=[
        Kind("secret", SecretSpec, SecretReference, 512000),
        Kind("config", ConfigSpec, ConfigReference, 1024000),
    ],
    ids=lambda kind: kind.noun,
)
def kind(request):
    return request.param


@pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "é", "a" * 65, "a\n"])
async def test_names_out_of_rule_are_refused(manager, kind, name):
    with pytest.raises(InvalidArgument, match=r"name must be provided" if not name else "invalid name, only 64"):
        await kind.control(manager).create(kind.new(name))


@pytest.mark.parametrize("name", ["a", "a.b_c-d", "A" * 64])
async def test_names_that_keep_to_the_rule_pass(manager, kind, name):
    assert await kind.control(manager).create(kind.new(name))


async def test_sizes_out_of_rule_are_refused(manager, kind):
    control = kind.control(manager)
    for size in (0, kind.limit):
        with pytest.raises(InvalidArgument) as caught:
            await control.create(kind.new(size=size))
        assert caught.value.message == INVALID + (
            f"{kind.noun} data must be larger than 0 and less than {kind.limit} bytes"
        )
    assert await control.create(kind.new(size=kind.limit - 1))


async def test_data_that_is_no_base64_is_refused(manager, kind):
    with pytest.raises(InvalidArgument, match=r"illegal base64 data"):
        await kind.control(manager).create(kind.spec(name="a", data="%%%"))


async def test_a_taken_name_conflicts(manager, kind):
    await kind.control(manager).create(kind.new())
    with pytest.raises(Conflict) as caught:
        await kind.control(manager).create(kind.new())
    assert caught.value.message == f"rpc error: code = AlreadyExists desc = {kind.noun} sec1 already exists"


async def test_only_labels_may_change(manager, kind):
    control = kind.control(manager)
    await control.create(kind.new())
    stored = control.get("sec1")
    for change in ({"name": "other"}, {"data": data(6)}):
        with pytest.raises(InvalidArgument) as caught:
            await control.update("sec1", stored.version.index, replace(stored.spec, **change))
        assert caught.value.message == INVALID + "only updates to Labels are allowed"
    await control.update("sec1", stored.version.index, kind.spec(name="sec1", labels={"a": "b"}))
    assert control.get("sec1").spec == replace(stored.spec, labels={"a": "b"})
    with pytest.raises(EnxameError, match=r"update out of sequence"):
        await control.update("sec1", stored.version.index, stored.spec)


async def test_what_services_use_stays(manager, put, kind):
    control = kind.control(manager)
    object_id = await control.create(kind.new())
    await put(kind.user("ss", object_id))
    with pytest.raises(InvalidArgument) as caught:
        await control.remove("sec1")
    assert caught.value.message == INVALID + f"{kind.noun} 'sec1' is in use by the following service: ss"
    await put(kind.user("tt", object_id))
    with pytest.raises(InvalidArgument, match=r"by the following services: ss, tt$"):
        await control.remove("sec1")
    await manager.services.remove("ss")
    await manager.services.remove("tt")
    await control.remove("sec1")
    with pytest.raises(NotFound, match=rf"^{kind.noun} sec1 not found$"):
        control.get("sec1")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, {"ab", "abc", "b"}),
        ({"name": {"ab"}}, {"ab", "abc"}),
        ({"names": {"ab"}}, {"ab"}),
        ({"names": {"b"}, "name": {"abc"}}, {"abc", "b"}),
        ({"id": {"id2"}}, {"abc"}),
        ({"label": {"x=1"}}, {"ab"}),
    ],
)
async def test_lists_are_filtered(manager, kind, wanted, found):
    control = kind.control(manager)
    await control.create(kind.new("ab", labels={"x": "1"}))
    await control.create(kind.new("abc"))
    await control.create(kind.new("b"))
    listed = control.list(Filters({name: frozenset(v) for name, v in wanted.items()}))
    assert {obj.spec.name for obj in listed} == found


async def test_secret_drivers_are_refused_openly(manager):
    with pytest.raises(Unimplemented, match=r"secret drivers"):
        await manager.secrets.create(SecretSpec(name="a", driver=Driver(name="vault")))
