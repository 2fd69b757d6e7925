"""Feature spaces by name, and those of a Keras network: a backbone from a file, InceptionV3, a U-Net's encoder."""

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthmed.errors import UserError
from synthmed.evaluation.distances import blocks
from synthmed.evaluation.features import Components, FeatureSpace, OfflineFeatures
from synthmed.files import parse_json
from synthmed.memory import check_keras, check_zip

KINDS = ("offline", "inception", "inception:FILE", "keras:FILE", "unet:RUN")
FREE_SIDE = 224
"""What slices are resized to where a backbone takes any size: what most were trained at."""
INCEPTION_SIDE = 299
INCEPTION_WEIGHTS = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
UNET_DIMENSION = 64
_BATCH = 32


class BackboneFeatures:
    """A network's output, averaged over the picture where it has places, and over the channels of the slices.

    A network with one or three inputs sees each channel by itself, repeated where it has three, and the vectors of the
    channels are averaged: the dimension stays the network's own, but whether channels belong together is not seen.
    A network with as many inputs as the slices have channels, other than three, sees them together. Intensities stay
    in [-1, 1].

    Args:
        network: Keras model from `(batch, height, width, inputs)` to `(batch, features)` or
            `(batch, rows, columns, features)`.
        name: For the report.
        side: What slices are resized to (bilinear, smoothed) where the network leaves it open.

    Raises:
        UserError: If the model is none of this kind.
    """

    def __init__(self, network: Any, *, name: str, side: int = FREE_SIDE):
        if len(network.inputs) != 1 or len(network.outputs) != 1:
            raise UserError(f"{name} has several inputs or outputs: give a network from one image to one vector")
        shape, output = network.inputs[0].shape, network.outputs[0].shape
        if len(shape) != 4 or len(output) not in (2, 4) or output[-1] is None or shape[3] is None:
            raise UserError(f"{name} maps {shape} to {output}: give a network from images to vectors or feature maps")
        self.name = f"{name}, mean over channels"
        self.dimension = int(output[-1])
        self.identity = weights_hash(network)
        self._network = network
        self._size = (shape[1] or side, shape[2] or side)
        self._inputs = int(shape[3])

    def fit(self, training: NDArray[np.float32]) -> None:
        """Learn nothing: the network is what it is."""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[n, dimension]` of slices `[n, H, W, C]` in [-1, 1].

        Raises:
            UserError: If the network takes another number of channels.
        """
        channels = images.shape[3]
        if self._inputs == channels and self._inputs != 3:
            return self._vectors(images)
        if self._inputs not in (1, 3):
            raise UserError(f"{self.name} takes {self._inputs} channels and the slices have {channels}: name another")
        parts = [self._vectors(images[..., channel : channel + 1]) for channel in range(channels)]
        return np.mean(parts, axis=0, dtype=np.float32)

    def _vectors(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        from keras import ops

        found = []
        for block in blocks(len(images), _BATCH):
            batch = ops.convert_to_tensor(np.asarray(images[block], np.float32))
            if tuple(batch.shape[1:3]) != self._size:
                batch = ops.image.resize(batch, self._size, interpolation="bilinear", antialias=True)
            if batch.shape[3] != self._inputs:
                batch = ops.repeat(batch, self._inputs, axis=3)
            # Compiled; called layer by layer Inception takes several times as long.
            output = np.asarray(self._network.predict_on_batch(batch), np.float32)
            found.append(output.mean(axis=(1, 2)) if output.ndim == 4 else output)
        return np.concatenate(found)


class UNetFeatures:
    """What the encoder of a trained U-Net says at each level, averaged over the slice and reduced on training slices.

    The mean and the deviation over the slice of every channel of the skips and of the lowest level; of these the 64
    directions in which the training slices differ most. A U-Net that takes neighbouring slices sees the slice itself
    in their place, because samples have no neighbours.

    Args:
        network: `synthmed.models.unet.UNet`, trained on real slices of training patients alone (see `refuse_held_out`).
        name: For the report.
    """

    def __init__(self, network: Any, *, name: str):
        self.name = name
        self.identity = ""
        self._network = network
        self._components: Components | None = None

    @property
    def dimension(self) -> int:
        """Features of a vector; 0 before `fit`."""
        return self._components.count if self._components else 0

    def fit(self, training: NDArray[np.float32]) -> None:
        """Learn the directions from training slices `[n, H, W, C]` in [-1, 1]."""
        self._components = Components(self._raw(training), components=UNET_DIMENSION)
        digest = hashlib.sha256(weights_hash(self._network).encode())
        digest.update(np.ascontiguousarray(training, np.float32).data)
        self.identity = digest.hexdigest()

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[n, dimension]` of slices `[n, H, W, C]` in [-1, 1].

        Raises:
            RuntimeError: Before `fit`.
        """
        if self._components is None:
            raise RuntimeError("the U-Net's feature space learns from training slices first: call fit")
        return self._components(self._raw(images))

    def _raw(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        from keras import ops

        slices = 2 * self._network.context + 1
        found = []
        for block in blocks(len(images), _BATCH):
            x = ops.cast(np.tile(images[block], (1, 1, 1, slices)), self._network.compute_dtype)
            parts = []
            for level, layer in enumerate(self._network.encoder):
                x = layer(self._network.pool(x) if level else x)
                wide = ops.cast(x, "float32")
                parts += [ops.mean(wide, axis=(1, 2)), ops.std(wide, axis=(1, 2))]
            found.append(ops.convert_to_numpy(ops.concatenate(parts, axis=1)))
        return np.concatenate(found)


def load_backbone(path: Path | str) -> Any:
    """Return the Keras model in a `.keras` or `.h5` file.

    Raises:
        UserError: If there is none, if it holds weights alone, or code (a Lambda layer, custom classes).
    """
    import keras

    path = Path(path)
    if path.suffix not in (".keras", ".h5", ".hdf5") or not path.is_file():
        raise UserError(f"{path} is no .keras or .h5 file: name a file that holds a whole Keras model")
    if "Lambda" in _layer_classes(_configuration(path)):
        raise UserError(f"{path} has a Lambda layer, which is code and is never run from a file: save it without")
    try:
        check_keras(path)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except UserError:
        raise
    except Exception as error:  # Keras raises whatever the file provokes.
        raise UserError(f"{path} cannot be read as a Keras model ({' '.join(str(error).split())[:120]})") from None


def load_inception(weights: Path | str | None, *, download: bool = False) -> Any:
    """Return Keras' InceptionV3 without its last layer.

    Args:
        weights: File with ImageNet weights as `keras.applications` publishes them; None looks in Keras' own folder.
        download: Whether they may be fetched where they are not there.

    Raises:
        UserError: If there are no weights, or the file holds others.
    """
    import keras

    if weights is None:
        weights = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models" / INCEPTION_WEIGHTS
        if download and not weights.is_file():
            return keras.applications.InceptionV3(include_top=False, weights="imagenet", pooling="avg")
    if not Path(weights).is_file():
        raise UserError(
            f"the weights of Inception are not at {weights}: allow their download with --download, or name the file "
            f"{INCEPTION_WEIGHTS} as inception:FILE"
        )
    network = keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg")
    try:
        check_keras(Path(weights))
        network.load_weights(str(weights))
    except UserError:
        raise
    except Exception as error:  # Keras raises whatever the file provokes.
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{weights} does not hold InceptionV3 without its top ({reason}): {INCEPTION_WEIGHTS}"
        ) from None
    return network


def weights_hash(network: Any) -> str:
    """Return SHA-256 over a model's architecture and weights."""
    digest = hashlib.sha256(type(network).__name__.encode())
    for weight in network.get_weights():
        digest.update(str(weight.shape).encode())
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()


def feature_space(
    spec: str = "offline", *, download: bool = False, load_unet: Callable[[Path], Any] | None = None
) -> FeatureSpace:
    """Return the feature space that a specification names.

    Args:
        spec: "offline"; "inception" or "inception:FILE" for Keras' InceptionV3; "keras:FILE" for any backbone, such as
            one of RadImageNet; "unet:RUN" for the encoder of a segmentation run.
        download: Whether the weights of "inception" may be fetched.
        load_unet: Returns the U-Net of a run's folder; it refuses a run that saw held-out patients or synthetic slices.

    Raises:
        UserError: If the specification names none, or its files cannot be used.
    """
    kind, colon, rest = spec.partition(":")
    if spec == "offline":
        return OfflineFeatures()
    if kind not in ("inception", "keras", "unet") or bool(colon) != bool(rest) or (not rest and kind != "inception"):
        raise UserError(f"there is no feature space {spec!r}: choose one of {', '.join(KINDS)}")
    if kind == "inception":
        network = load_inception(Path(rest) if rest else None, download=download)
        return BackboneFeatures(network, name="InceptionV3 (Keras)", side=INCEPTION_SIDE)
    if kind == "keras":
        return BackboneFeatures(load_backbone(rest), name=f"backbone {Path(rest).name}")
    if load_unet is None:
        raise UserError("unet:RUN is not available here: use `synthmed evaluate`")
    return UNetFeatures(load_unet(Path(rest)), name=f"encoder of the U-Net {Path(rest).name}")


def _configuration(path: Path) -> Any:
    """Return the architecture that a file describes, as JSON, without building any of it."""
    import h5py

    try:
        if path.suffix == ".keras":
            check_zip(path)
            with zipfile.ZipFile(path) as archive:
                return parse_json(archive.read("config.json").decode("utf-8"), str(path))
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        raise UserError(f"{path} is damaged or no Keras file: save the model again") from None
    if text is None:
        raise UserError(f"{path} holds weights alone: save the whole model, architecture included")
    return parse_json(text if isinstance(text, str) else bytes(text).decode("utf-8"), str(path))


def _layer_classes(configuration: Any) -> set[str]:
    """Return every class name in a configuration, at any depth."""
    if isinstance(configuration, dict):
        own = {configuration["class_name"]} if isinstance(configuration.get("class_name"), str) else set()
        return own.union(*(_layer_classes(value) for value in configuration.values()))
    if isinstance(configuration, list):
        return set().union(*(_layer_classes(value) for value in configuration))
    return set()
