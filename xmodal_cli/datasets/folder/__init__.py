"""Pairs of images from a rig, or from any folder, to a prepared data set."""
