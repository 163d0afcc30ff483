"""Bench, sample and calibration files: TOML read into frozen models, all faults reported at once."""
