"""Parts of the stripe scan: its rows, its memory, its analysis."""
