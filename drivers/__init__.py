"""Instrument drivers, by role; each takes an adapter and knows one protocol."""
