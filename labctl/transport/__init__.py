"""From a resource name to bytes on a wire or calls into a vendor library."""
