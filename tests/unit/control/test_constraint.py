from __future__ import annotations

import pytest

from enxame.control.constraint import matches, parse
from enxame.errors import InvalidArgument
from enxame.model.node import EngineDescription, Node, NodeDescription, NodeSpec, NodeStatus
from enxame.model.service import Platform

NODE = Node(
    id="n1abc",
    spec=NodeSpec(labels={"zone": "East", "Rack": "r1"}, role="worker"),
    description=NodeDescription(
        hostname="lab1",
        platform=Platform(architecture="x86_64", os="linux"),
        engine=EngineDescription(labels={"disk": "ssd"}),
    ),
    status=NodeStatus(addr="10.1.2.3"),
)


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ("node.id==n1abc", True),
        ("node.id == N1ABC", True),
        ("node.id!=n1abc", False),
        ("node.hostname==lab1", True),
        ("node.hostname!=lab2", True),
        ("NODE.ROLE==Worker", True),
        ("node.role==manager", False),
        ("node.platform.os==Linux", True),
        ("node.platform.arch!=aarch64", True),
        ("node.labels.zone==east", True),
        ("node.labels.zone==west", False),
        ("node.labels.Zone==east", False),
        ("node.labels.Rack==R1", True),
        ("node.labels.none!=x", True),
        ("node.labels.none==x", False),
        ("engine.labels.disk==ssd", True),
        ("engine.labels.disk!=ssd", False),
        ("node.ip==10.1.2.3", True),
        ("node.ip==10.1.0.0/16", True),
        ("node.ip!=10.1.0.0/16", False),
        ("node.ip!=192.168.0.0/24", True),
        ("node.ip==nonsense", False),
        ("node.ip!=nonsense", False),
        ("node.color==red", False),
        ("node.color!=red", False),
        ("node.labels.zone==*", False),
    ],
)
def test_an_expression_fits_the_node_or_not(expression: str, fits: bool) -> None:
    assert matches(parse([expression]), NODE) is fits


def test_all_expressions_must_fit() -> None:
    assert matches(parse(["node.role==worker", "node.labels.zone==east"]), NODE)
    assert not matches(parse(["node.role==worker", "node.labels.zone==west"]), NODE)
    assert matches(parse([]), NODE)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("node.role", "constraint expected one operator from ==, !="),
        ("node.role=manager", "constraint expected one operator from ==, !="),
        ("", "constraint expected one operator from ==, !="),
        ("1node==x", "key '1node' is invalid"),
        ("no de==x", "key 'no de' is invalid"),
        ("==x", "key '' is invalid"),
        ("node.id==", "value '' is invalid"),
        ("node.id==a>b", "value 'a>b' is invalid"),
        ("node.id!=a!=b", "value 'a!=b' is invalid"),
    ],
)
def test_a_malformed_expression_is_refused_in_swarms_words(expression: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse([expression])
    assert caught.value.message == message
