"""How well an edit holds: pictures before and after, what is counted in them, and attempts to bring the concept back."""
