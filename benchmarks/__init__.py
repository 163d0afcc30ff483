"""Benchmarks: ``python -m benchmarks`` measures everything that has a target and prints one table."""
