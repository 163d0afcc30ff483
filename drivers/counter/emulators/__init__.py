"""Emulators of counters: the real protocol over the simulated laboratory."""
