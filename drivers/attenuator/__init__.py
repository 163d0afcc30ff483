"""Drivers of the role attenuator."""
