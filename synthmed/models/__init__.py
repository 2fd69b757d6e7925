"""Networks: mapping, the three generators, the discriminator and the U-Net."""
