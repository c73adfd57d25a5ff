"""xmodal: carry supervision from images that have labels to kinds of images that have none.

An implementation of "Cross Modal Distillation for Supervision Transfer" (Gupta, Hoffman, Malik, CVPR 2016).
Nothing heavy is imported here, so that `xmodal --help` answers at once.
"""

__version__ = "0.1.0"
