"""This node's relation to a swarm: none, founder, member."""
