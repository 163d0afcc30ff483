"""Emulators of motorised linear stages."""
