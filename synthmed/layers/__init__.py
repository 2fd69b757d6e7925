"""Keras layers of the StyleGAN2 family, written in `keras.ops` alone."""

from synthmed.layers.dense import EqualizedDense
from synthmed.layers.discriminator_block import DiscriminatorBlock
from synthmed.layers.equalized_conv import EqualizedConv2D
from synthmed.layers.fir import FIRBlur, FIRDownsample, FIRUpsample
from synthmed.layers.mask_injection import MaskInjection
from synthmed.layers.minibatch_stddev import MinibatchStddev
from synthmed.layers.modulated_conv import ModulatedConv2D
from synthmed.layers.noise import NoiseInjection
from synthmed.layers.styled_conv import StyledConv2D

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
