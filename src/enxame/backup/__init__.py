"""Backups of a swarm: their form, and files that hold them. Knows nothing of what it keeps."""
