"""`python -m cad_engine.cli` is `cad`."""

from . import main

main()
