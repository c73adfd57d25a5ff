"""The prepared form of a data set: images with explicit types, pairs matched by ID, splits, annotations and checks."""
