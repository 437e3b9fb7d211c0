from __future__ import annotations

from typing import Any

import pytest

from enxame.errors import PermissionDenied
from enxame.model.config_networks import check_config_from
from enxame.model.network import IPAM, ConfigFrom, IPAMConfig, NetworkCreateRequest

PLAN = ConfigFrom(network="plan")
CONFIGURED = "user specified configurations are not supported if the network depends on a configuration network"
OPTIONS = "network driver options are not supported if the network depends on a configuration network"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"config_only": True}, "a configuration network cannot depend on another configuration network"),
        ({"ipam": IPAM(config=[IPAMConfig(subnet="10.1.0.0/24")])}, CONFIGURED),
        ({"ipam": IPAM(options={"a": "b"})}, CONFIGURED),
        ({"ipam": IPAM(driver="other")}, CONFIGURED),
        ({"enable_ipv6": True}, CONFIGURED),
        ({"labels": {"a": "b"}}, CONFIGURED),
        ({"labels": {"a": "b"}, "options": {"a": "b"}}, CONFIGURED),
        ({"options": {"parent": "eth0"}}, OPTIONS),
    ],
)
def test_what_depends_on_a_configuration_has_none_of_its_own(asked: dict[str, Any], message: str) -> None:
    check_config_from(NetworkCreateRequest(name="a", **asked))
    with pytest.raises(PermissionDenied) as refused:
        check_config_from(NetworkCreateRequest(name="a", config_from=PLAN, **asked))
    assert refused.value.message == message


def test_what_a_configuration_leaves_open_is_the_networks() -> None:
    check_config_from(NetworkCreateRequest(name="a", config_from=PLAN, internal=True, attachable=True, ipam=IPAM()))
