"""Damaged and strange run files: whatever is done to a journal or a sealed file, a clear error or a correct read."""
