"""Emulators of lamps: the real protocol over the simulated laboratory."""
