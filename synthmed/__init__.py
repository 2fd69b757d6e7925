"""Synthetic images for small, labelled medical image sets: generate them, blend them, measure whether they help."""

__version__ = "0.1.0"
