"""COCO's labelled images, and any other colour images with boxes in its format, as a prepared data set."""
