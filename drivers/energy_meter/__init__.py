"""Drivers of pulse-energy meters."""
