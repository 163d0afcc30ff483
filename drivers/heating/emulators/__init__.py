"""Emulators of heating stages, hot plates and cryostats."""
