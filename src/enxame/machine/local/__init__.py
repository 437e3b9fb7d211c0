"""Machines on this host, each in namespaces of its own."""
