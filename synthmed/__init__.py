"""Synthetic images for small, labelled medical image sets: generate them, blend them, measure whether they help.

    import synthmed as sm

Names are loaded when they are first used: the import itself reads neither TensorFlow nor Keras. No call prints anything
unless it is given `progress` or `say`; what a user can fix raises `synthmed.UserError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Generator": "generation.generator",
    "LeakError": "errors",
    "Store": "data.store",
    "UserError": "errors",
    "compare": "api",
    "evaluate": "api",
    "export": "serving.export",
    "generate": "generation.generate",
    "inspect": "api",
    "load_generator": "generation.generator",
    "open_store": "api",
    "prepare": "api",
    "train_generator": "api",
    "train_unet": "segmentation.train_unet",
    "write_phantom": "data.phantom",
}
_MODULES = ("layers", "metrics", "models")
__all__ = [
    "Generator",
    "LeakError",
    "Store",
    "UserError",
    "compare",
    "evaluate",
    "export",
    "generate",
    "inspect",
    "layers",
    "load_generator",
    "metrics",
    "models",
    "open_store",
    "prepare",
    "train_generator",
    "train_unet",
    "write_phantom",
]

if TYPE_CHECKING:
    from synthmed import layers, metrics, models
    from synthmed.api import compare, evaluate, inspect, open_store, prepare, train_generator
    from synthmed.data.phantom import write_phantom
    from synthmed.data.store import Store
    from synthmed.errors import LeakError, UserError
    from synthmed.generation.generate import generate
    from synthmed.generation.generator import Generator, load_generator
    from synthmed.segmentation.train_unet import train_unet
    from synthmed.serving.export import export


def __getattr__(name: str) -> Any:
    """Load a name of the API (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'synthmed' has no attribute {name!r}")
    from synthmed.quiet import quieten_tensorflow

    quieten_tensorflow(slow=None)
    if name in _MODULES:
        return import_module(f"synthmed.{name}")
    found = getattr(import_module(f"synthmed.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
