from types import SimpleNamespace
from typing import Any, cast

from enxame.agent.container_executor import ContainerExecutor
from enxame.engine.drivers import drivers


def test_a_node_has_the_drivers_that_its_engine_has() -> None:
    engine = SimpleNamespace(networks=SimpleNamespace(subnets=lambda: ["10.0.0.0/24"], has_ipv6=True))
    executor = ContainerExecutor(
        cast("Any", engine), cast("Any", None), hostname="n1", labels={"a": "b"}, generic_resources=[]
    )
    found = executor.describe()
    described = {(plugin.type, plugin.name) for plugin in found.engine.plugins}
    assert described == {(kind, name) for kind, names in drivers().items() for name in names}
    assert {("Log", "syslog"), ("Log", "local"), ("Network", "overlay"), ("Volume", "local")} <= described
    assert (found.hostname, found.subnets, found.ipv4_only) == ("n1", ["10.0.0.0/24"], False)
