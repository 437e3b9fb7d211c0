"""Measures enxamed beside Debian's dockerd in swarm mode: one harness, over the Engine API, in one run."""
