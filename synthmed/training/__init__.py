"""The adversarial training of the generators."""
