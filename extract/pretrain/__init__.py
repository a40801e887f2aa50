"""Training the encoder before stage one uses it."""
