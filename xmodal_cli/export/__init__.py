"""Runs as files for other programs: plain weights, timm's folders, ONNX."""
