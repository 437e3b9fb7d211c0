"""The shipped test kit: fake clock, fake runtime, simulated clusters."""
