"""Benches and samples."""
