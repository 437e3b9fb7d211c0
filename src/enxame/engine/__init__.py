"""Containers on this machine: runtime, images, volumes, logs, exec, local networks."""
