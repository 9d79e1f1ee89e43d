"""The commands' common frame: one error line and exit code 2 for whatever the user can mend."""

from __future__ import annotations

import io
import os
import sys

import typer

from .attribute import attribute
from .combine import combine
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
for command in (demo, attribute, erase, amplify, combine, generate, inspect, verify):
    app.command()(command)

QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
"""Settings of the libraries beneath, set before they are imported: no notices among our lines, and no network whatever happens."""


INTERRUPTED = 130
"""Exit code that typer gives a Ctrl-C."""


def main() -> None:
    """Entry point: a CadError becomes one line on stderr and exit code 2, an interrupt exit code 130."""
    from ..errors import CadError

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a console that lacks a character must not cost the result
    try:
        app()
    except CadError as error:
        print(f"cad: error: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("cad: interrupted; the model and all finished files are as they were", file=sys.stderr)
        raise
    except Exception as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; not worth importing torch for
            raise
        print("cad: error: the device's memory is full; lower --batch, add --checkpointing, or use a smaller --dtype", file=sys.stderr)
        sys.exit(2)
