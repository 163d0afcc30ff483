"""Heating stages, hot plates and cryostats."""
