"""labctl runs the optical experiments of a nanocrystal laboratory."""
