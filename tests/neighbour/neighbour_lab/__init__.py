"""What the laboratory next door adds to labctl: a role, a driver with its emulator, a procedure and a bench."""
