"""Supervised classification of whole images: a network learns the class of an image, or of the clip that it is of."""
