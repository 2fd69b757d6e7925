"""Which engine trains: that of the Keras backend."""

from synthmed.backend import backend_name, check_backend
from synthmed.errors import InvariantError
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
        UserError: If the backend is none that trains or is missing, or the batch does not divide among the replicas.
    """
    check_backend()
    devices = devices or Devices.of("one")
    if backend_name() == "jax":
        from synthmed.training.jax_devices import JaxDevices
        from synthmed.training.jax_engine import JaxEngine

        if not isinstance(devices, JaxDevices):
            raise InvariantError("under JAX, Devices.of returns JaxDevices")
        return JaxEngine(networks, options, devices)
    from synthmed.training.tensorflow_engine import TensorFlowEngine

    return TensorFlowEngine(networks, options, devices.strategy)
