"""Train a small segmentation network on samples of an exported generator with TensorFlow 2.15 and tensorflow-addons.

    python pipeline.py MODEL_VERSION [--n 256] [--epochs 10] [--seed 0]

MODEL_VERSION is a folder that `synthmed export` wrote, such as saved_models/hippocampus/1. Nothing of synthmed is
imported.
"""

import argparse
import math
import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

BATCH = 8
HELD_OUT = 32
"""Slices that measure the network; their seeds are not trained on."""


def main() -> None:
    """Draw, train, measure, and print one line a class."""
    parser = argparse.ArgumentParser(description="Train a small network on samples of an exported generator.")
    parser.add_argument("model", help="folder of one version of an exported generator")
    parser.add_argument("--n", type=int, default=256, help="slices to train on")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tf.keras.utils.set_random_seed(options.seed)
    images, masks = draw(options.model, range(options.n + HELD_OUT))
    classes = int(masks.max()) + 1
    network = segmenter(images.shape[1:], classes)
    adam = tfa.optimizers.AdamW(weight_decay=1e-4, learning_rate=3e-3)
    # Otherwise the first weights, which are noise, would count for hundreds of steps.
    optimizer = tfa.optimizers.MovingAverage(adam, dynamic_decay=True)
    loss = tfa.losses.SigmoidFocalCrossEntropy(from_logits=True, reduction="sum_over_batch_size")
    network.compile(optimizer, loss=loss)
    data = training_data(images[: options.n], masks[: options.n], classes=classes, seed=options.seed)
    network.fit(data, epochs=options.epochs, verbose=0)
    optimizer.assign_average_vars(network.variables)
    predicted = np.argmax(network.predict(images[options.n :], verbose=0), axis=-1)
    for index in range(1, classes):
        print(f"class {index}: Dice {dice(predicted == index, masks[options.n :] == index):.3f}")


def draw(folder: str, seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """Return images float32 [n, H, W, C] of about -1 to 1 and label maps uint8 [n, H, W] of these seeds."""
    model = tf.saved_model.load(folder)
    sample = model.signatures["sample"]
    if "image" not in sample.structured_outputs:
        sys.exit(f"{folder} draws label maps alone: export a base or cond generator")
    parts = []
    for start in range(seeds.start, seeds.stop, BATCH):
        chosen = tf.range(start, min(start + BATCH, seeds.stop), dtype=tf.int64)
        parts.append(sample(seed=chosen, psi=tf.ones(len(chosen))))
    return tuple(np.concatenate([part[name].numpy() for part in parts]) for name in ("image", "mask"))


def training_data(images: np.ndarray, masks: np.ndarray, *, classes: int, seed: int) -> tf.data.Dataset:
    """Return batches of turned and slightly blurred images, and their label maps as planes of 0 and 1."""

    def augmented(image, mask):
        angles = tf.random.uniform([tf.shape(image)[0]], -math.pi / 12, math.pi / 12)
        image = tfa.image.rotate(image, angles, interpolation="bilinear", fill_mode="nearest")
        mask = tfa.image.rotate(mask[..., tf.newaxis], angles, interpolation="nearest", fill_mode="nearest")
        image = tfa.image.gaussian_filter2d(image, filter_shape=3, sigma=0.5)
        return image, tf.one_hot(mask[..., 0], classes)

    data = tf.data.Dataset.from_tensor_slices((images, masks)).shuffle(len(images), seed=seed)
    return data.batch(BATCH).map(augmented).prefetch(2)


def segmenter(shape: tuple[int, ...], classes: int) -> tf.keras.Model:
    """Return a network of a few dilated convolutions that keeps the size of an image."""
    inputs = features = tf.keras.Input(shape)
    for dilation in (1, 2, 4, 1):
        features = tf.keras.layers.Conv2D(16, 3, padding="same", dilation_rate=dilation)(features)
        features = tfa.layers.InstanceNormalization()(features)
        features = tf.keras.layers.Activation(tfa.activations.mish)(features)
    return tf.keras.Model(inputs, tf.keras.layers.Conv2D(classes, 1)(features))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice score of two sets of pixels; 1 where both are empty."""
    total = int(one.sum() + other.sum())
    return 1.0 if total == 0 else 2.0 * int((one & other).sum()) / total


if __name__ == "__main__":
    main()
