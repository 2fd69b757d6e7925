"""Blending of real and synthetic slices, U-Net training, inference on whole cases, scores."""
