"""Emulators; they run in the simulated laboratory only."""
