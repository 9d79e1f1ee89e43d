"""The command line `cad`. Every command imports what it needs when it runs, so that `cad --help` is instant."""

from .app import main

__all__ = ["main"]
