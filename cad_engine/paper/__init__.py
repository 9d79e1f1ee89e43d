"""The paper's tables, measured with any model: what is painted, by what it is judged, what the paper found (docs/reproduce.md)."""
