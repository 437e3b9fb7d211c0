"""The objects of the swarm and of one machine's engine: one typed definition for API, store and wire."""
