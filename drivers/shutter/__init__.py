"""Drivers of the role shutter."""
