"""What emulators of instruments that speak SCPI have in common."""
