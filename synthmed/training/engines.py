"""Which engine trains: that of the Keras backend."""

import keras

from synthmed.errors import UserError
from synthmed.training.devices import Devices
from synthmed.training.engine import Engine
from synthmed.training.networks import Networks
from synthmed.training.options import TrainOptions


def make_engine(networks: Networks, options: TrainOptions, devices: Devices | None = None) -> Engine:
    """Return the engine of the Keras backend.

    Args:
        networks: The networks to train, built in the scope of the devices.
        options: Resolved options.
        devices: What they are trained on; one device by default.

    Raises:
        UserError: If the backend is none that trains, or the batch does not divide among the replicas.
    """
    backend = keras.backend.backend()
    devices = devices or Devices.of("one")
    if backend == "tensorflow":
        from synthmed.training.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(networks, options, devices.strategy)
    if backend == "jax":
        from synthmed.training.jax_devices import JaxDevices
        from synthmed.training.jax_engine import JaxEngine

        assert isinstance(devices, JaxDevices)
        return JaxEngine(networks, options, devices)
    raise UserError(f"training knows no backend {backend!r}: set KERAS_BACKEND to tensorflow or jax")
