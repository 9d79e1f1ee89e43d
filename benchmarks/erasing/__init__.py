"""The parts of `python -m benchmarks.erase`: what is erased and kept, what is measured, how it is shown."""
