"""Emulators of pulse-energy meters: the real protocol over the simulated laboratory."""
