"""What depends on the Keras backend: the devices, how many share a batch, and the engine that trains on them."""

from synthmed.backend import backend_name, check_backend
from synthmed.errors import InvariantError
from synthmed.training.devices import Cluster, Devices, join_cluster
from synthmed.training.engine import Engine, Method


def make_devices(strategy: str) -> Devices:
    """Return the devices of an option `strategy`: "one", "mirrored" or "workers".

    For several workers this has to come before anything else asks TensorFlow for a tensor, and it waits until all of
    them are there.

    Raises:
        UserError: If TF_CONFIG describes no cluster, this process cannot join it, or the backend knows none.
    """
    if backend_name() == "jax":
        from synthmed.training.jax_backend import JaxDevices

        return JaxDevices.of(strategy)
    if strategy == "one":
        return Devices()
    if strategy == "workers":
        return join_cluster()
    import tensorflow as tf

    return Devices(tf.distribute.MirroredStrategy(_local_devices()))


def make_engine(method: Method, devices: Devices | None = None) -> Engine:
    """Return the engine of the Keras backend.

    Args:
        method: What to train, built in the scope of the devices.
        devices: What it is trained on; one device by default.

    Raises:
        UserError: If the backend is none that trains or is missing, or the batch does not divide among the replicas.
    """
    check_backend()
    devices = devices or make_devices("one")
    if backend_name() == "jax":
        from synthmed.training.jax_backend import JaxDevices, JaxEngine

        if not isinstance(devices, JaxDevices):
            raise InvariantError("under JAX, make_devices returns JaxDevices")
        return JaxEngine(method, devices)
    from synthmed.training.tensorflow_backend import TensorFlowEngine

    return TensorFlowEngine(method, devices.strategy)


def count_replicas(strategy: str) -> int:
    """Return how many replicas a strategy would have, without joining a cluster.

    Raises:
        UserError: If TF_CONFIG describes no cluster, or the backend knows no clusters.
    """
    if backend_name() == "jax":
        return make_devices(strategy).replicas
    if strategy == "one":
        return 1
    if strategy == "workers":
        import tensorflow as tf

        # TensorFlow takes it that all workers have as many GPUs as this one, and so does this.
        return len(Cluster.of_environment().addresses) * max(1, len(tf.config.list_physical_devices("GPU")))
    return len(_local_devices())


def has_accelerator() -> bool:
    """Tell whether a device that multiplies bfloat16 does the work in place of the processor.

    Under TensorFlow nobody is asked: what the processor has decides, as it does for runs that are there already.
    """
    if backend_name() != "jax":
        return False
    from synthmed.training.jax_backend import JaxDevices, has_bfloat16

    devices = JaxDevices.of("one")
    return devices.accelerator and has_bfloat16(devices.device)


def _local_devices() -> list[str]:
    """Return the names of this machine's GPUs, or of its processors where it has none."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]
