"""Emulators of the attenuators: the real protocols, driven by the simulated laboratory."""
