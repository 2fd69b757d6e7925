"""Taking slow shading out of MRI by N4.

Source: Tustison et al. 2010, "N4ITK: improved N3 bias correction", doi:10.1109/TMI.2010.2046908.
"""

import numpy as np

from synthmed.data.foreground import body_mask

COARSE = 32
"""Voxels along an axis with which the field is sought at most: it is smooth over a large part of the image."""
# At three scales of the field, as in 3D Slicer; a fourth follows anatomy in a head, and takes twice as long.
_ITERATIONS = [50, 40, 30]
# Along a shorter axis a cubic spline has nothing to hold on to, so that its slices are treated one by one.
_SHORTEST = 4


def correct_bias(values: np.ndarray, zooms: tuple[float, float, float]) -> np.ndarray:
    """Return one channel `[X, Y, Z]` freed of a slow multiplicative field, float32; its mean within the body stays.

    The field is sought within the body of a shrunken image and divided out at full resolution. Where an axis has fewer
    than 4 voxels, that is done for each of its slices by itself.

    Args:
        values: float32 intensities.
        zooms: Voxel sizes.
    """
    if values.min() == values.max():
        return values.astype(np.float32)
    short = [axis for axis in range(3) if values.shape[axis] < _SHORTEST]
    if not short:
        return _corrected(values, zooms)
    corrected = np.empty(values.shape, np.float32)
    axis = short[-1]
    rest = tuple(size for number, size in enumerate(zooms) if number != axis)
    for index in range(values.shape[axis]):
        plane = np.take(values, index, axis=axis)
        place = tuple(slice(None) if number != axis else index for number in range(3))
        corrected[place] = plane if min(plane.shape) < _SHORTEST else _corrected(plane, rest)
    return corrected


def _corrected(values: np.ndarray, zooms: tuple[float, ...]) -> np.ndarray:
    """Return an array of two or three axes divided by its field."""
    import SimpleITK as sitk

    body = body_mask(values)
    if not body.any() or values.min() == values.max():
        return values.astype(np.float32)
    # N4 works on logarithms: what is not positive cannot have been multiplied by a field.
    body &= values > 0
    if np.count_nonzero(body) < _SHORTEST**2:
        return values.astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values, np.float32))
    mask = sitk.GetImageFromArray(body.astype(np.uint8))
    # SimpleITK counts axes from the last of a NumPy array.
    image.SetSpacing([float(size) for size in reversed(zooms)])
    mask.CopyInformation(image)
    shrink = [-(-extent // COARSE) for extent in reversed(values.shape)]
    field_filter = sitk.N4BiasFieldCorrectionImageFilter()
    field_filter.SetMaximumNumberOfIterations(_ITERATIONS)
    field_filter.Execute(sitk.Shrink(image, shrink), sitk.Shrink(mask, shrink))
    field = np.exp(sitk.GetArrayFromImage(field_filter.GetLogBiasFieldAsImage(image)))
    corrected = values / field
    corrected *= float(values[body].mean() / corrected[body].mean())
    return corrected.astype(np.float32)
