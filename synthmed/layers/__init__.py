"""Keras layers of the StyleGAN2 family, written in `keras.ops` alone."""

from synthmed.layers.discriminator_block import DiscriminatorBlock, MinibatchStddev
from synthmed.layers.equalized import EqualizedConv2D, EqualizedDense
from synthmed.layers.fir import FIRBlur, FIRDownsample, FIRUpsample
from synthmed.layers.modulated_conv import ModulatedConv2D
from synthmed.layers.styled_conv import MaskInjection, NoiseInjection, StyledConv2D

__all__ = [
    "DiscriminatorBlock",
    "EqualizedConv2D",
    "EqualizedDense",
    "FIRBlur",
    "FIRDownsample",
    "FIRUpsample",
    "MaskInjection",
    "MinibatchStddev",
    "ModulatedConv2D",
    "NoiseInjection",
    "StyledConv2D",
]
