"""Networks of this machine: objects, addresses, published ports; the local side of the swarm's networks."""

from enxame.engine.networks.manager import IngressProblem, NetworkManager

__all__ = ["IngressProblem", "NetworkManager"]
