"""A data set that is made on the spot: furnished rooms, a camera that walks through them, and every modality exact."""
