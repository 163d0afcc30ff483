"""Emulators of the detectors."""
