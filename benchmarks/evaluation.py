"""Time and memory of fidelity and diversity figures, beside one plain search for neighbours on the same features.

    python benchmarks/evaluation.py --slices 10000 --side 64

prints one line of JSON. As many synthetic as held-out and as training slices, the real baseline, are compared in
the offline feature space. What stands beside it is what a user would write down: all distances of the synthetic to
the held-out features as one float64 matrix, and the nearest few of each row and column; its peak is measured after
that of the figures, which is taken first.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import emit, peak_gib


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--slices", type=int, default=10_000, help="of each of the three sets")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--patients", type=int, default=100)
    arguments = parser.parse_args()
    from synthmed.evaluation.features import OfflineFeatures
    from synthmed.evaluation.fidelity import fidelity_sections

    shape = (arguments.slices, arguments.side, arguments.side, arguments.channels)
    drawn, training, held_out = (make_slices(shape, seed) for seed in range(3))
    patients = [str(number * arguments.patients // arguments.slices) for number in range(arguments.slices)]
    space = OfflineFeatures()
    before = peak_gib()
    started, processor = time.perf_counter(), time.process_time()
    sections, _ = fidelity_sections(drawn, training, patients, held_out, patients, space)
    seconds, processor_seconds, peak = time.perf_counter() - started, time.process_time() - processor, peak_gib()
    features = space(drawn), space(held_out)
    started = time.perf_counter()
    plain_neighbours(*features)
    plain = time.perf_counter() - started
    emit(
        {
            "benchmark": "evaluation",
            "slices": arguments.slices,
            "side": arguments.side,
            "channels": arguments.channels,
            "figures": sum(len(section.figures) for section in sections),
            "seconds": seconds,
            "processor_seconds": processor_seconds,
            "plain_neighbours_s": plain,
            "ratio": seconds / plain,
            "peak_memory_gib": peak,
            "slices_gib": 3 * drawn.nbytes / 2**30,
            "before_gib": before,
            "with_plain_gib": peak_gib(),
        }
    )


def make_slices(shape: tuple[int, ...], seed: int):
    """Return blobs with noise, of which no two are alike."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(seed)
    slices = np.empty(shape, np.float32)
    for first in range(0, len(slices), 256):
        part = slices[first : first + 256]
        rough = random.standard_normal(part.shape, np.float32)
        part[:] = 3.0 * gaussian_filter(rough, (0, 3, 3, 0)) + 0.02 * rough[::-1]
    return slices.clip(-1.0, 1.0, out=slices)


def plain_neighbours(drawn, real) -> None:
    """Find the five nearest neighbours in both directions from one matrix."""
    import numpy as np

    drawn, real = drawn.astype(np.float64), real.astype(np.float64)
    distances = (drawn**2).sum(1)[:, None] + (real**2).sum(1)[None, :] - 2.0 * drawn @ real.T
    for axis in (0, 1):
        np.partition(distances, min(5, distances.shape[axis] - 1), axis=axis)


if __name__ == "__main__":
    main()
