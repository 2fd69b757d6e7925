"""The random numbers of a training step, by JAX."""

from typing import Any

import jax

from synthmed.training.step_numbers import StepNumbers


class JaxNumbers(StepNumbers):
    """Draws by JAX's counter-based generator: the numbers do not depend on how many devices share a batch."""

    def key(self, number: Any, phase: int, stream: int) -> Any:
        """Return a key of the seed, the phase, the stream and the step."""
        # By name: what is a key's default may change, and a resumed run has to draw on.
        key = jax.random.key(self.options.seed, impl="threefry2x32")
        for part in (phase, stream, number):
            key = jax.random.fold_in(key, part)
        return key

    def uniform(self, shape: tuple[int, ...], key: Any) -> Any:
        """Return float32 numbers in [0, 1)."""
        return jax.random.uniform(key, shape, "float32")

    def normal(self, shape: tuple[int, ...], key: Any) -> Any:
        """Return standard normal float32 numbers."""
        return jax.random.normal(key, shape, "float32")

    def whole(self, shape: tuple[int, ...], key: Any, *, low: int, high: int) -> Any:
        """Return int32 numbers from `low` to below `high`."""
        return jax.random.randint(key, shape, low, high, "int32")
