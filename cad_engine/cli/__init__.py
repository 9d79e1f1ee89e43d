"""The command line `cad`. Every command imports what it needs when it runs, so that `cad --help` is instant."""

import sys


def main() -> None:
    """Run `cad`; without the packages of the extra "cli" it says so in one line and ends with exit code 2."""
    try:
        from .app import main as run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print(f"cad needs the package {error.name}: install this project with its extra 'cli', pip install \".[cli]\"", file=sys.stderr)
        sys.exit(2)
    run()


__all__ = ["main"]
