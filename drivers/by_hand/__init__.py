"""Instruments without a wire: somebody sets them by hand, says so, and it is recorded."""
