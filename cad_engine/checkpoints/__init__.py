"""Stable Diffusion checkpoints as denoisers: reading, recognising, naming and loading them, never from the network."""
