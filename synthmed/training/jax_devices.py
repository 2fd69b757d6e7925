"""The devices of a training under JAX: one, or all of this machine."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax
import keras
from jax.sharding import NamedSharding, PartitionSpec

from synthmed.errors import UserError
from synthmed.training.devices import Devices
from synthmed.training.options import TrainOptions

# NVIDIA's devices multiply bfloat16 from this compute capability on; XLA would convert it to float32 and back.
BFLOAT16_CAPABILITY = 8.0
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


class JaxDevices(Devices):
    """How the devices of this machine share the work of a training under JAX.

    Args:
        devices: The devices; all are of one kind.

    Attributes:
        accelerator: Whether they are something else than this machine's processor.
    """

    def __init__(self, devices: list[jax.Device]):
        super().__init__()
        self.replicas = len(devices)
        self.device = devices[0]
        self.accelerator = self.device.platform != "cpu"
        self.distribution = None
        self._parts = self._all = None
        if self.replicas > 1:
            names = [f"{device.platform}:{device.id}" for device in devices]
            self.distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
            mesh = self.distribution.device_mesh.backend_mesh
            self._parts = NamedSharding(mesh, PartitionSpec(self.distribution.batch_dim_name))
            self._all = NamedSharding(mesh, PartitionSpec())

    @classmethod
    def of(cls, name: str) -> "JaxDevices":
        """Return the devices of an option `strategy`: "one" or "mirrored".

        Raises:
            UserError: If it is "workers", which is TensorFlow's.
        """
        refuse_workers(name)
        keep_compiled()
        devices = jax.local_devices()
        return cls(devices if name == "mirrored" else devices[:1])

    def scope(self) -> AbstractContextManager:
        """Return the scope in which variables are made."""
        return nullcontext() if self.distribution is None else self.distribution.scope()

    def put(self, values: Any) -> jax.Array:
        """Send part of a batch, `(batch, ...)`, on its way to the devices."""
        return jax.device_put(values, self._parts or self.device)

    def hold(self, values: Any) -> Any:
        """Bind arrays to the devices, whole on each: what is bound to none is compiled for once more."""
        return jax.device_put(values, self._all or self.device)

    def share(self, values: Any) -> Any:
        """Say within a compiled function that each device has its part of `(batch, ...)`."""
        return values if self._parts is None else jax.lax.with_sharding_constraint(values, self._parts)

    def spread(self, values: Any) -> Any:
        """Say within a compiled function that every device has all of some arrays."""
        return values if self._all is None else jax.lax.with_sharding_constraint(values, self._all)

    def check_precision(self, options: TrainOptions) -> None:
        """Refuse a number format that the devices have not.

        Raises:
            UserError: If it is bfloat16, and the device is older than that.
        """
        if options.precision == "bfloat16" and not has_bfloat16(self.device):
            raise UserError(
                f"{self.device.device_kind} has no bfloat16: start the run with --precision float32, or on a device "
                f"of compute capability {BFLOAT16_CAPABILITY:g} or higher"
            )

    @contextmanager
    def watched(self, run: Path, options: TrainOptions) -> Iterator[None]:
        """Turn the lack of memory on a device into one line that says what to try.

        Raises:
            UserError: If there is not enough of it.
        """
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise UserError(out_of_memory(self.device.device_kind, options, self.replicas)) from error


def refuse_workers(name: str) -> None:
    """Refuse a training on several machines.

    Raises:
        UserError: If the strategy `name` is "workers".
    """
    if name == "workers":
        raise UserError(
            "--strategy workers needs TensorFlow: set KERAS_BACKEND=tensorflow, or train on this machine's devices "
            "with --strategy mirrored"
        )


def has_bfloat16(device: jax.Device) -> bool:
    """Tell whether a device multiplies bfloat16; a processor is not judged here, but by its flags."""
    try:
        return float(getattr(device, "compute_capability", BFLOAT16_CAPABILITY)) >= BFLOAT16_CAPABILITY
    except ValueError:
        return True  # other makers count in other words


def out_of_memory(kind: str, options: TrainOptions, replicas: int) -> str:
    """Say which batch to try on devices whose memory a run did not fit into.

    Args:
        kind: Name of the device.
        options: Resolved options of the run.
        replicas: How many devices share a batch.
    """
    least = options.path_batch_shrink * replicas
    smaller = options.batch // 2 // least * least
    instead = f"a new run with --batch {smaller}" if smaller else "smaller slices, or --set channel_max"
    format = " and --precision bfloat16" if options.precision == "float32" else ""
    return f"{kind} has not the memory for a batch of {options.batch}: try {instead}{format}"


def keep_compiled() -> None:
    """Let JAX keep compiled programs on disk: in JAX_COMPILATION_CACHE_DIR, else in the user's cache folder."""
    if CACHE_VARIABLE not in os.environ:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "synthmed" / "jax"))
