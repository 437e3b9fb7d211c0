from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from enxame.engine.networks import definitions
from enxame.engine.networks.name_service import NameService
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry
from enxame.engine.networks.sandbox_records import SandboxRecord
from enxame.engine.networks.tables import NetworkTables
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.model.container import EndpointSettings
from enxame.model.network import IPAMConfig, IPAMOptions, Network, NetworkSpec


@pytest.mark.timeout(60)  # what is quadratic takes hours
async def test_hundreds_of_thousands_of_aliases_are_looked_at_once(tmp_path: Path) -> None:
    ipam = IPAMOptions(configs=[IPAMConfig(subnet="10.0.0.0/24", gateway="10.0.0.1")])
    network = Network(id="n1", spec=NetworkSpec(name="app"), ipam_options=ipam)
    registry = NetworkRegistry(tmp_path)
    await registry.add(ActiveNetwork.of(definitions.of_swarm(network)))
    names = NameService(registry, cast("Any", SimpleNamespace(new_socket=None)), NetworkTables())
    aliases = [f"a{number}" for number in range(300_000)]
    endpoint = EndpointSettings(network_id="n1", aliases=aliases, dns_names=["web.1", *aliases], ip_address="10.0.0.2")
    for serving in (False, True):
        names.tell(
            SandboxRecord(
                container_id="c1",
                request=SandboxRequest(waits_to_serve=True),
                info=SandboxInfo(endpoints={"app": endpoint}),
                serving=serving,
            )
        )
    assert names._table.network("n1").bearers.keys() == {"web.1"}
