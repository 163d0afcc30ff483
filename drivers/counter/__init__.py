"""Drivers for counters of the laser's triggers."""
