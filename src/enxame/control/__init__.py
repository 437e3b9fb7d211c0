"""The leader's decisions: pure machines over a transaction; no I/O, no clock, no randomness of their own."""
