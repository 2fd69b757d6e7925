"""Deep supervision: heads on the lower levels of a U-Net's decoder, there while it is trained and not after."""

import keras

from synthmed.layers.precision import at_least_float32


def supervised_levels(levels: int) -> int:
    """Return how many levels of a decoder are supervised, full resolution included.

    As in nnU-Net (Isensee et al. 2021), the decoder's lowest level is not: a U-Net of 5 resolutions has a decoder of 4
    levels, of which 3 are supervised.
    """
    return max(levels - 2, 1)


def level_weights(count: int) -> list[float]:
    """Return the share of each of `count` levels in the loss: halved with each lower resolution, 1 in all."""
    total = sum(0.5**level for level in range(count))
    return [0.5**level / total for level in range(count)]


def coarse_labels(labels, level: int):
    """Return the labels `[batch, height, width]` of one pixel for each `2 ** level` rows and columns.

    Each is the label nearest to the middle of the pixels that it stands for, so classes are never mixed, nor is
    `IGNORE` with them.
    """
    step = 2**level
    first = (step - 1) // 2
    return labels[:, first::step, first::step]


@keras.saving.register_keras_serializable(package="synthmed")
class DeepSupervision(keras.layers.Layer):
    """A head for each supervised level of a decoder below full resolution.

    A layer of its own beside the network, so that the network that is kept and exported has no weights but its own.

    Args:
        classes: Number of classes, background included.
        count: Supervised levels without full resolution.

    Input: what `UNet.features` returns for levels 1 to `count`. Output: float32 logits of each, with the rows and
    columns of `coarse_labels`.
    """

    def __init__(self, classes: int, *, count: int, **kwargs):
        super().__init__(**kwargs)
        if classes < 2 or count < 0:
            raise ValueError(f"classes must be at least 2 and count at least 0, got {classes} and {count}")
        self.classes = classes
        self.count = count
        exact = at_least_float32(self.dtype_policy)
        self.heads = [keras.layers.Conv2D(classes, 1, dtype=exact, name=f"head_{n + 1}") for n in range(count)]

    def build(self, input_shape):
        for head, shape in zip(self.heads, input_shape, strict=True):
            head.build(shape)

    def call(self, features, *, size):
        """Apply the heads; `size` is rows and columns of the slices without padding."""
        found = [head(feature) for head, feature in zip(self.heads, features, strict=True)]
        sides = [[_coarse_side(side, level) for side in size] for level in range(1, self.count + 1)]
        return [logits[:, :rows, :columns, :] for logits, (rows, columns) in zip(found, sides, strict=True)]

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "count": self.count}


def _coarse_side(side: int, level: int) -> int:
    return len(range((2**level - 1) // 2, side, 2**level))
