"""The simulated operator, who works the instruments without a wire."""
