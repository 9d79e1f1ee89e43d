"""The parts of `python -m benchmarks.speed`: one step at full size, whole attributions on the sandbox, and how they grow."""
