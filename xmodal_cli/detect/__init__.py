"""What is done with regions of images: proposals, detectors from training to scores, the probe of frozen features."""
