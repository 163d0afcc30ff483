"""The kill table: ``python -m kill_table`` ends a run in every way at random instants, and resumes it."""
