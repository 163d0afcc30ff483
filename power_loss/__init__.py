"""What a power cut leaves of a run: its traced writes and syncs, replayed onto images of the disk."""
