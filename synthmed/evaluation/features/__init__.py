"""Feature spaces: what turns slices into vectors whose distances mean something."""

from synthmed.evaluation.features.offline import OfflineFeatures
from synthmed.evaluation.features.registry import feature_space
from synthmed.evaluation.features.remembered import RememberedFeatures
from synthmed.evaluation.features.space import FeatureSpace, refuse_held_out

__all__ = ["FeatureSpace", "OfflineFeatures", "RememberedFeatures", "feature_space", "refuse_held_out"]
