"""Filters before the slit of the spectrograph."""
