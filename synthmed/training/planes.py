"""Slices as the planes that generators draw and discriminators judge."""

from keras import ops


def one_hot_mask(labels, classes: int):
    """Turn `(batch, height, width)` class indices into `(batch, height, width, classes)` planes of -1 and 1."""
    return 2.0 * ops.one_hot(ops.cast(labels, "int32"), classes, dtype="float32") - 1.0


def soften(mask):
    """Round the steps of one-hot planes `(batch, height, width, classes)` with [1, 6, 1] / 8 along both axes.

    A generator cannot draw perfect steps, and a discriminator that knows real masks by them teaches nothing else. Every
    pixel keeps more than half of its own value, so the class of each is still the largest plane.
    """
    for axis in (1, 2):
        padding = [(1, 1) if axis == number else (0, 0) for number in range(4)]
        wide = ops.pad(mask, padding, mode="symmetric")
        before, after = (wide[:, :-2], wide[:, 2:]) if axis == 1 else (wide[:, :, :-2], wide[:, :, 2:])
        mask = 0.75 * mask + 0.125 * (before + after)
    return mask


def real_planes(image, mask, *, variant: str):
    """Return what the discriminator sees of a real slice: image planes (but for `mask`), then mask planes.

    The mask of `cond` stays as it is given: real and generated slices carry the same one.
    """
    if variant == "cond":
        return ops.concatenate([image, mask], axis=-1)
    return soften(mask) if variant == "mask" else ops.concatenate([image, soften(mask)], axis=-1)


def judged_planes(generated, mask, *, variant: str):
    """Return what the discriminator sees of a generated slice; `cond` is judged together with the mask it was given."""
    return ops.concatenate([generated, mask], axis=-1) if variant == "cond" else generated


def split_planes(planes, *, image_channels: int, mask_classes: int) -> dict:
    """Return `image` (float32) and `mask` (uint8 class indices), as far as the planes hold them."""
    parts = {}
    if image_channels:
        parts["image"] = planes[..., :image_channels]
    if mask_classes:
        parts["mask"] = ops.cast(ops.argmax(planes[..., image_channels:], axis=-1), "uint8")
    return parts
