"""What tests of commands share."""

import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def place(tmp_path_factory, store):
    """Return a folder with a data set, a store, a run, a set, a U-Net and a study, small."""
    folder = tmp_path_factory.mktemp("place")
    small = ["--batch", "4", "--set", "channel_base=256", "--set", "channel_max=16"]
    data = str(store.path)
    for command in (
        ["train", "--variant", "cond", "--data", data, "--out", "run", "--kimg", "0.016", *small],
        ["generate", "--n", "8", "--model", "run", "--out", "set"],
        ["segment", "train", "--data", data, "--out", "unet", "--steps", "2", "--width", "8"],
        ["export", "run", "--to", "models", "--name", "tiny", "--audit-n", "8"],
    ):
        subprocess.run([sys.executable, "-m", "synthmed.cli.main", *command], cwd=folder, check=True)
    (folder / "dataset").symlink_to(store.path.parent / "set")
    (folder / "store").symlink_to(store.path)
    return folder
