"""What a run leaves behind: the journal while it goes, the sealed HDF5 file after it, and the way back to both."""
