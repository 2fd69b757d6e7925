"""Networks: the generators of slices, their mapping and synthesis networks, the discriminator, and the U-Net."""

from importlib import import_module
from typing import Any

_HOMES = {
    "MappingNetwork": "mapping",
    "SliceDiscriminator": "discriminator",
    "SliceGenerator": "generators",
    "SynthesisNetwork": "synthesis",
    "UNet": "unet",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a network's class when it is first used: its module imports Keras."""
    if name not in _HOMES:
        raise AttributeError(f"module 'synthmed.models' has no attribute {name!r}")
    return getattr(import_module(f"synthmed.models.{_HOMES[name]}"), name)
