"""How a batch is shared by replicas, as far as it is known before any of them is there."""

from synthmed.backend import backend_name
from synthmed.errors import UserError
from synthmed.training.cluster import Cluster
from synthmed.training.options import TrainOptions


def local_devices() -> list[str]:
    """Return the names of this machine's GPUs, or of its processors where it has none."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def count_replicas(name: str) -> int:
    """Return how many replicas a strategy would have, without joining a cluster.

    Raises:
        UserError: If TF_CONFIG describes no cluster, or the backend knows no clusters.
    """
    if backend_name() == "jax":
        from synthmed.training.jax_devices import JaxDevices

        return JaxDevices.of(name).replicas
    if name == "one":
        return 1
    if name == "workers":
        import tensorflow as tf

        # TensorFlow takes it that all workers have as many GPUs as this one, and so does this.
        return len(Cluster.of_environment().addresses) * max(1, len(tf.config.list_physical_devices("GPU")))
    return len(local_devices())


def has_accelerator() -> bool:
    """Tell whether a device that multiplies bfloat16 does the work in place of the processor.

    Under TensorFlow nobody is asked: what the processor has decides, as it does for runs that are there already.
    """
    if backend_name() != "jax":
        return False
    from synthmed.training.jax_devices import JaxDevices, has_bfloat16

    devices = JaxDevices.of("one")
    return devices.accelerator and has_bfloat16(devices.device)


def check_share(options: TrainOptions, replicas: int) -> None:
    """Refuse a batch that does not divide among the replicas.

    Raises:
        UserError: If it does not, or if that of the path length regulariser does not.
    """
    if options.batch % replicas or options.path_batch % replicas:
        raise UserError(
            f"a batch of {options.batch} (path length: {options.path_batch}) does not divide among {replicas} "
            f"replicas: give --batch {options.path_batch_shrink * replicas} or a multiple of it"
        )


def describe(options: TrainOptions, replicas: int) -> str:
    """Say in words how a batch is shared."""
    if replicas == 1:
        alone = {"mirrored": "this machine has one device: nothing to share", "workers": "a cluster of one worker"}
        return alone.get(options.strategy, "one device")
    return f"{replicas} replicas, {options.batch // replicas} slices of each batch of {options.batch} on each"
