"""Feature spaces by the words of the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthmed.errors import UserError
from synthmed.evaluation.features.offline import OfflineFeatures
from synthmed.evaluation.features.space import FeatureSpace

KINDS = ("offline", "inception", "inception:FILE", "keras:FILE", "unet:RUN")


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
    # Keras is imported for those that need it.
    from synthmed.evaluation.features import keras_network as networks

    if kind == "inception":
        network = networks.load_inception(Path(rest) if rest else None, download=download)
        return networks.BackboneFeatures(network, name="InceptionV3 (Keras)", side=networks.INCEPTION_SIDE)
    if kind == "keras":
        return networks.BackboneFeatures(networks.load_backbone(rest), name=f"backbone {Path(rest).name}")
    if load_unet is None:
        raise UserError("unet:RUN is not available here: use `synthmed evaluate`")
    return networks.UNetFeatures(load_unet(Path(rest)), name=f"encoder of the U-Net {Path(rest).name}")
