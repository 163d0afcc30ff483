"""Emulators of spectrographs: the real protocol over the simulated laboratory."""
