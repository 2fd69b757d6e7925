"""The distance of two weighted samples, for the weights of many resamples at once."""

import numpy as np
from numpy.typing import NDArray


def wasserstein(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    first_weights: NDArray[np.float64],
    second_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the Wasserstein-1 distance of two weighted samples, `[resamples]`, for many weights at once.

    It is the area between their distribution functions (Vallender 1974). NaN where all weights of a sample are 0.

    Args:
        first: `[n]`.
        second: `[m]`.
        first_weights: `[resamples, n]`.
        second_weights: `[resamples, m]`.
    """
    values = np.concatenate([first, second])
    order = np.argsort(values, kind="stable")
    with np.errstate(invalid="ignore", divide="ignore"):
        signed = np.concatenate(
            [
                first_weights / first_weights.sum(axis=1, keepdims=True),
                -second_weights / second_weights.sum(axis=1, keepdims=True),
            ],
            axis=1,
        )
    return np.abs(np.cumsum(signed[:, order], axis=1)[:, :-1]) @ np.diff(values[order])
