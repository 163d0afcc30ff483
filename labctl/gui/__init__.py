"""The window: a front like the terminal, over the same commands, the same endpoint and the same run files."""
