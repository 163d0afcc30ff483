"""Drivers of spectrographs."""
