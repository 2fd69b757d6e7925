"""Packages that only some commands need, and how to install them."""

from importlib.util import find_spec

EXTRAS = {
    "serving": {
        "starlette": "starlette",
        "uvicorn": "uvicorn",
        "grpc": "grpcio",
        "tensorflow_serving": "tensorflow-serving-api",
        "google": "protobuf",
        "prometheus_client": "prometheus-client",
    },
    "study": {
        "dask": "dask",
        "distributed": "distributed",
        "scikit_posthocs": "scikit-posthocs",
        "pandas": "pandas",
        "statsmodels": "statsmodels",
    },
    "dicom": {"gdcm": "python-gdcm"},
    "jax": {"jax": "jax"},
}
"""extra: {module that is imported: package that brings it}, for every extra with commands that use it."""


def install_hint(module: str) -> str:
    """Return how to install what brings the module `module` (its first part counts)."""
    top = module.split(".")[0]
    for extra, packages in EXTRAS.items():
        if top in packages:
            return f"pip install 'synthmed[{extra}]'"
    return f"pip install {top}"


def missing(extra: str) -> list[str]:
    """Return the packages of an extra that are not installed, by the names that pip knows."""
    return [package for module, package in EXTRAS[extra].items() if find_spec(module) is None]
