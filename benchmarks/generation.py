"""Generated slices a second, as a share of what the convolutions and matrix products of drawing them allow.

    python benchmarks/generation.py --size 64

prints one line of JSON. Slices are drawn as `synthmed generate` draws them: random numbers from the seed of each item,
mapping, truncation, synthesis, class indices; with fresh weights, of which the speed does not depend.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import CLASSES, SIZES, Interleaved, emit, make_options, peak_gib, since_start

PSI = 0.8


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="64")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--variant", choices=["base", "mask", "cond"], default="base")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=8, help="how often a batch and each operation is timed")
    arguments = parser.parse_args()
    import numpy as np
    import tensorflow as tf
    from operations import operations

    from synthmed.generation.generator import RunGenerator

    bundle = make_bundle(arguments.size, variant=arguments.variant, precision=arguments.precision)
    generator = RunGenerator(bundle, batch=arguments.batch)
    seeds = np.arange(arguments.batch)
    generator.sample_seeds(seeds, PSI)
    first_batch = since_start()
    seed, psi = tf.constant(seeds, tf.int64), tf.fill([arguments.batch], PSI)
    function = tf.function(bundle.sample).get_concrete_function(seed, psi)
    measured = Interleaved(operations([(function, 1)]), {"sample": 1.0})
    for _ in range(arguments.rounds):
        measured.round({"sample": lambda: generator.sample_seeds(seeds, PSI)})
    emit(
        {
            "benchmark": "generation",
            "size": arguments.size,
            "variant": arguments.variant,
            "precision": arguments.precision,
            "batch": arguments.batch,
            "rounds": arguments.rounds,
            **measured.report(arguments.batch),
            "first_batch_s": first_batch,
            "peak_memory_gib": peak_gib(),
        }
    )


def make_bundle(name: str, *, variant: str, precision: str):
    """Return a bundle with fresh weights; a `cond` one with its mask generator."""
    from synthmed.data.geometry import Template
    from synthmed.generation.bundle import GeneratorBundle
    from synthmed.generation.info import GeneratorInfo
    from synthmed.training.networks import make_generator

    side, channels = SIZES[name]["size"], SIZES[name]["channels"]

    def generator(kind: str):
        options = make_options(name, variant=kind, precision=precision)
        return make_generator(options, size=(side, side), channels=channels, classes=CLASSES)

    template = Template(
        affine=((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
        orientation="RAS",
        xyzt_units=("mm", "sec"),
        qform_code=1,
        sform_code=1,
        scale=(1.0,) * channels,
        offset=(0.0,) * channels,
        dtype="float32",
    )
    info = GeneratorInfo(
        name="benchmark",
        variant=variant,
        size=(side, side),
        channels=() if variant == "mask" else tuple(f"channel{number}" for number in range(channels)),
        classes=tuple(f"class{number}" for number in range(CLASSES)),
        z_dim=SIZES[name]["z"],
        templates=[template],
        training_patients=[],
        kimg=0.0,
        model_hash="",
        dataset="none",
        licence="none",
        options={},
    )
    return GeneratorBundle(info, generator(variant), generator("mask") if variant == "cond" else None)


if __name__ == "__main__":
    main()
