"""`python -m cad_engine.cli` is `cad`."""

from .app import main

main()
