"""Estimators: what the data of a run say, with intervals. Pure NumPy and SciPy; knows no instrument or file."""
