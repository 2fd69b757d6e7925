"""Gradients against finite differences in float64, and the search for what has to be compared."""

import importlib
import pkgutil

import numpy as np
import pytest

from synthmed.backend import BACKENDS, installed

# Smaller steps drown in rounding, larger ones meet the kinks of leaky ReLUs: a right gradient agrees for one of them.
STEPS = (1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
TOLERANCE = 2e-5


class FiniteDifferences:
    """Compares derivatives along random directions with central differences.

    A function `outputs()` reads float64 variables and returns tensors. Its sum of weighted sines is the scalar that is
    differentiated: a smooth stand-in for the rest of a network, whose second derivative is never zero. Each group of
    variables is moved along one random direction, so one wrong or missing gradient among thousands shows.
    """

    def __init__(self, seed: int = 0):
        self.random = np.random.default_rng(seed)
        self.steps, self.tolerance = STEPS, TOLERANCE
        self.weights: list[np.ndarray] = []

    def variable(self, value):
        """Return a TensorFlow variable of float64."""
        import tensorflow as tf

        return tf.Variable(np.asarray(value, np.float64), dtype=tf.float64)

    def normal(self, shape):
        """Return a variable of standard normal numbers, or for a list of shapes a list of them."""
        if isinstance(shape, list):
            return [self.normal(one) for one in shape]
        return self.variable(self.random.standard_normal(shape))

    def scramble(self, layer):
        """Give every weight of a built layer normal numbers about its value: strengths that start at zero hide."""
        for weight in layer.weights:
            weight.assign(np.asarray(weight) + 0.3 * self.random.standard_normal(weight.shape))

    def first_order(self, outputs, groups) -> None:
        """Compare the gradient with respect to each group of variables.

        Args:
            outputs: Function without arguments.
            groups: Lists of variables by the name that a failure shows.
        """
        import tensorflow as tf

        def value():
            return self._scalar(outputs())

        with tf.GradientTape(persistent=True) as tape:
            total = value()
        self._compare(
            "first order", value, {name: tape.gradient(total, group) for name, group in groups.items()}, groups
        )
        for name, group in groups.items():
            for variable, gradient in zip(group, tape.gradient(total, group), strict=True):
                assert gradient is not None and np.any(gradient), f"no gradient reaches {variable.name} of {name}"

    def second_order(self, outputs, groups, penalised) -> None:
        """Compare the gradient of the squared norm of the gradient, as R1 and path length take it.

        Args:
            outputs: Function without arguments.
            groups: Lists of variables with respect to which the norm is differentiated.
            penalised: Variables whose gradient's norm is taken.
        """
        import tensorflow as tf

        def value():
            with tf.GradientTape() as inner:
                inner.watch(penalised)
                total = self._scalar(outputs())
            return tf.add_n([tf.reduce_sum(tf.square(one)) for one in inner.gradient(total, penalised)])

        with tf.GradientTape(persistent=True) as tape:
            penalty = value()
        gradients = {name: tape.gradient(penalty, group) for name, group in groups.items()}
        self._compare("second order", value, gradients, groups)

    def compare(self, what, value, gradients, group) -> None:
        """Compare given gradients of the scalar `value()` with respect to a list of variables."""
        self._compare(what, value, {"weights": gradients}, {"weights": group})

    def _scalar(self, outputs):
        import tensorflow as tf

        flat = tf.nest.flatten(outputs)
        if len(self.weights) != len(flat):
            self.weights = [self.random.standard_normal(one.shape) for one in flat]
        for one in flat:
            assert one.dtype == tf.float64, f"computes in {one.dtype.name} although float64 was asked for"
        return tf.add_n([tf.reduce_sum(tf.sin(one) * weight) for one, weight in zip(flat, self.weights, strict=True)])

    def _compare(self, order, value, gradients, groups) -> None:
        for name, group in groups.items():
            directions = [self.random.standard_normal(variable.shape) for variable in group]
            expected = sum(
                float(np.sum(np.asarray(gradient) * direction))
                for gradient, direction in zip(gradients[name], directions, strict=True)
                if gradient is not None
            )
            found = []
            for step in self.steps:
                found.append(self._slope(value, group, directions, step))
                if abs(found[-1] - expected) <= self.tolerance * max(abs(found[-1]), abs(expected), 1e-3):
                    break
            else:
                raise AssertionError(f"{order}, {name}: gradient gives {expected}, finite differences give {found}")

    @staticmethod
    def _slope(value, group, directions, step: float) -> float:
        start = [np.asarray(variable).copy() for variable in group]
        ends = []
        for sign in (1, -1):
            for variable, middle, direction in zip(group, start, directions, strict=True):
                variable.assign(middle + sign * step * direction)
            ends.append(float(value()))
        for variable, middle in zip(group, start, strict=True):
            variable.assign(middle)
        return (ends[0] - ends[1]) / (2 * step)


@pytest.fixture
def differences():
    """Return finite differences with random numbers of their own."""
    return FiniteDifferences()


def modules_below(name: str) -> list:
    """Return the module or package `name` and all modules below it, but for those of a backend that is not there."""
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):
        return [module]
    absent = tuple(f".{backend}_" for backend in BACKENDS if not installed(backend))
    names = [found.name for found in pkgutil.walk_packages(module.__path__, f"{name}.")]
    return [module, *(importlib.import_module(one) for one in names if not any(part in one for part in absent))]


@pytest.fixture(scope="session")
def public_objects():
    """Return a function from package names to {"module.name": object} of what is defined there and not private."""

    def collect(*packages: str) -> dict:
        return {
            f"{module.__name__.removeprefix('synthmed.')}.{name}": value
            for package in packages
            for module in modules_below(package)
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        }

    return collect
