"""Emulators of filter wheels."""
