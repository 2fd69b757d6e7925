"""Experiments made of everything else."""
