"""The commands' common frame: one error line and exit code 2 for whatever the user can mend."""

from __future__ import annotations

import io
import os
import sys

import typer

from .attribute import attribute
from .attribute_list import attribute_list
from .audit import audit
from .check import check
from .combine import combine
from .demo import demo
from .edits import amplify, erase
from .generate import generate
from .inspect import inspect
from .paper import paper
from .verify import verify

app = typer.Typer(
    name="cad",
    help="See which weights of a diffusion model draw a concept; suppress or strengthen it without training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (demo, attribute, attribute_list, erase, amplify, combine, generate, inspect, verify, check, audit, paper):
    app.command()(command)

SHARED = ("attribute", "attribute-list", "paper")
"""Commands that several processes can share."""


@app.callback()
def before(context: typer.Context) -> None:
    # No docstring: it would take the place of the app's own help.
    from ..errors import CadError
    from ..processes import joined

    processes = joined()
    if processes.size > 1 and context.invoked_subcommand not in SHARED:
        raise CadError(f"cad {context.invoked_subcommand} is for one process, and torchrun has started {processes.size}; start it without")


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
ENDED = 143
"""Exit code of a process that was asked to end, as shells have it."""


def main() -> None:
    """Entry point: a CadError becomes one line on stderr and exit code 2, an interrupt exit code 130.

    Of several processes, the first that ends says why.
    """
    from ..errors import CadError
    from ..processes import Ended, alone, leaving, speaks

    def say(text: str) -> None:
        if not speaks():
            return
        # Of several processes, another may just have drawn its progress bar and not yet ended that line: one write, which begins a line.
        sys.stderr.write(f"{text}\n" if alone() else f"\n{text}\n")

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a console that lacks a character must not cost the result
    try:
        try:
            app()
        finally:
            leaving()
    except CadError as error:
        say(f"cad: error: {error}")
        sys.exit(2)
    except Ended:
        say("cad: error: a process of this run has died, or the run was told to end; finished files are kept, so start it again to go on")
        sys.exit(ENDED)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            say("cad: interrupted; the model and all finished files are as they were")
        raise
    except Exception as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; not worth importing torch for
            raise
        say("cad: error: the device's memory is full; lower --batch, add --checkpointing, or use a smaller --dtype")
        sys.exit(2)
