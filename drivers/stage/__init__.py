"""Drivers of motorised linear stages."""
