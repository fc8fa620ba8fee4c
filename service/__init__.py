"""Serve three-way models: which images to distrust. Needs numpy and ONNX Runtime, never torch."""

__version__ = "0.1.0"
