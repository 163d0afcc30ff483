"""Drivers for meters of optical power."""
