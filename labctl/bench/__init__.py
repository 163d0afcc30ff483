"""Opens the instruments of a bench by role, holds its limits, composes them, leaves it safe."""
