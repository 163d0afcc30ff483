"""Drivers for lamps that stress the sample."""
