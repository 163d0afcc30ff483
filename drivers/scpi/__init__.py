"""What instruments that speak SCPI have in common, whatever their role."""
