"""Networks by name, their layers by name with their geometry, and weights in and out."""
