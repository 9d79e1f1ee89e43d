"""The commands' common frame: one error line and exit code 2 for whatever the user can mend."""

from __future__ import annotations

import sys

import typer

from .attribute import attribute
from .demo import demo
from .edits import amplify, erase
from .generate import generate
from .inspect import inspect
from .verify import verify

app = typer.Typer(
    name="cad",
    help="See which weights of a diffusion model draw a concept; suppress or strengthen it without training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (demo, attribute, erase, amplify, generate, inspect, verify):
    app.command()(command)


def main() -> None:
    """Entry point: a CadError becomes one line on stderr and exit code 2, an interrupt exit code 130."""
    from ..errors import CadError

    try:
        app()
    except CadError as error:
        print(f"cad: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("cad: interrupted; the model and all finished files are as they were", file=sys.stderr)
        sys.exit(130)
