"""Label maps of a synthetic set beside real ones: how often, how large, of what shape, where, and beside what."""

from synthmed.evaluation.masks.compare import MaskComparison, MaskGroup, compare_masks

__all__ = ["MaskComparison", "MaskGroup", "compare_masks"]
