"""Emulators of the shutters: the real protocols, driven by the simulated laboratory."""
