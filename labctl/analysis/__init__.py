"""Estimators: what the data of a run say, with intervals. Pure NumPy, SciPy and lmfit; knows no instrument or file."""
