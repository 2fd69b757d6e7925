"""What `synthmed demo` found."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthmed.segmentation.score import Scores

SHOWN = 8
"""Slices in each sample grid."""

REAL_ONLY = "real slices alone"
BLENDED = "real and generated slices"


@dataclass(kw_only=True)
class DemoResult:
    """What the demo found.

    Attributes:
        channels: Names of the channels.
        train_patients: Patients that trained the generator and the U-Nets.
        test_patients: Patients on which the U-Nets are scored.
        generated: Slices drawn.
        kimg: Thousands of real images shown to the discriminator.
        real: (images float32 [n, H, W, C] in [-1, 1], labels uint8 [n, H, W]) of training slices.
        fake: The same of generated slices.
        scores: Scores of the test patients, of the U-Nets trained on `REAL_ONLY` and `BLENDED`.
        seconds: Seconds that each step took.
    """

    channels: tuple[str, ...]
    train_patients: int
    test_patients: int
    generated: int
    kimg: float
    real: tuple[NDArray[np.float32], NDArray[np.uint8]]
    fake: tuple[NDArray[np.float32], NDArray[np.uint8]]
    scores: dict[str, Scores]
    seconds: dict[str, float] = field(default_factory=dict)
