"""The links between nodes: calls and streams over mutual TLS."""
