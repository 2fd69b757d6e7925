"""An exported generator, made once."""

import pytest


@pytest.fixture(scope="session")
def models(tiny_bundle, tmp_path_factory):
    """Return a folder of models with one version of `tiny-cond`."""
    from synthmed.serving.export import export_bundle

    folder = tmp_path_factory.mktemp("saved_models")
    export_bundle(tiny_bundle("cond"), to=folder)
    return folder
