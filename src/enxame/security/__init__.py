"""The swarm's CA, certificates, join tokens and keys."""
