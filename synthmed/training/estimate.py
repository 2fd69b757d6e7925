"""How long a run would take and how much memory, before it is begun."""

import time
from typing import Any

from synthmed.models.pyramid import make_pyramid
from synthmed.training.networks import make_networks
from synthmed.training.options import TrainOptions
from synthmed.training.plan import TrainingPlan

# Forward passes that a step amounts to, a backward pass being two: see the phases of the engine. The generator's
# batch is drawn once and goes back once; the discriminator judges real and generated slices and goes back through the
# generated ones twice. Regularisers take about three times a plain pass and its way back.
GENERATOR_PASSES = 3.0
DISCRIMINATOR_PASSES = 7.0
SECOND_ORDER_PASSES = 9.0
# Share of the plain convolution rate that a whole step reached on two cores; the rest is element-wise work.
EFFICIENCY = 0.45
MEASURE_SECONDS = 0.5


def estimate(plan: TrainingPlan) -> dict[str, Any]:
    """Return parameters, speed, time and memory of a planned run as plain values.

    Speed follows from the multiplications of a step and a convolution measured now in the run's number format. It is
    right within a factor of two.
    """
    options, store = plan.options, plan.store
    networks = make_networks(options, size=store.size, channels=len(store.channels), classes=len(store.classes))
    flops = _step_flops(options, store.size)
    rate = _convolution_rate(options)
    seconds_a_step = flops / (rate * EFFICIENCY)
    images_a_second = options.batch / seconds_a_step
    minutes = [] if options.minutes is None else [options.minutes]
    if options.kimg is not None:
        minutes.append(options.kimg * 1000 / images_a_second / 60)
    return {
        "generator_parameters": networks.generator.count_params(),
        "discriminator_parameters": networks.discriminator.count_params(),
        "training_slices": len(store.indices("train")),
        "gflop_a_step": round(flops / 1e9, 1),
        "images_a_second": round(images_a_second, 1),
        "minutes": round(min(minutes), 1),
        "memory_gib": round(_memory_bytes(options, store.size, networks) / 2**30, 1),
    }


def _forward_flops(options: TrainOptions, size: tuple[int, int]) -> float:
    """Floating-point operations of one slice through the discriminator's convolutions, about those of the generator."""
    _, _, channel_base, channel_max = options.architecture()
    pyramid = make_pyramid(size, channel_base=channel_base, channel_max=channel_max)
    total = 0.0
    for level in range(len(pyramid.sizes)):
        pixels = pyramid.sizes[level][0] * pyramid.sizes[level][1]
        channels, below = pyramid.channels[level], pyramid.channels[max(level - 1, 0)]
        total += 2 * 9 * pixels * channels * channels + 2 * 9 * pixels / 4 * channels * below
    return total


def _step_flops(options: TrainOptions, size: tuple[int, int]) -> float:
    forward = _forward_flops(options, size) * options.batch
    path = SECOND_ORDER_PASSES / options.path_every / options.path_batch_shrink if options.path_weight else 0.0
    r1 = SECOND_ORDER_PASSES / (options.r1_every or 1) if options.r1_gamma else 0.0
    return forward * (GENERATOR_PASSES + DISCRIMINATOR_PASSES + path + r1)


def _convolution_rate(options: TrainOptions) -> float:
    """Measure floating-point operations a second of a typical convolution in the run's number format."""
    import numpy as np
    from keras import ops

    size, channels = 32, 64
    dtype = "bfloat16" if options.precision == "bfloat16" else "float32"
    inputs = ops.cast(np.ones((8, size, size, channels)), dtype)
    kernel = ops.cast(np.ones((3, 3, channels, channels)), dtype)
    flops = 2 * 9 * channels * channels * size * size * 8
    np.asarray(ops.cast(ops.conv(inputs, kernel, padding="same")[0, 0, 0], "float32"))
    best, end = float("inf"), time.perf_counter() + MEASURE_SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        np.asarray(ops.cast(ops.conv(inputs, kernel, padding="same")[0, 0, 0], "float32"))
        best = min(best, time.perf_counter() - start)
    return flops / best


def _memory_bytes(options: TrainOptions, size: tuple[int, int], networks: Any) -> float:
    _, _, channel_base, channel_max = options.architecture()
    pyramid = make_pyramid(size, channel_base=channel_base, channel_max=channel_max)
    bytes_a_value = 2 if options.precision == "bfloat16" else 4
    features = sum(h * w * c for (h, w), c in zip(pyramid.sizes, pyramid.channels, strict=True))
    # A dozen tensors a level live until the way back; weights come with their average and Adam's two moments.
    activations = 12 * 3 * features * options.batch * bytes_a_value
    weights = 4 * (4 * networks.generator.count_params() + 3 * networks.discriminator.count_params())
    runtime = 0.8 * 2**30
    return activations + weights + runtime
