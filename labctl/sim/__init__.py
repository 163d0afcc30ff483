"""The simulated laboratory: laser, optics, sample, emulators, server."""
