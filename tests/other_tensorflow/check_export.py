"""Ask every signature of an exported generator under whatever TensorFlow runs this, and compare with known answers.

    python check_export.py VERSION_FOLDER QUESTIONS.npz

It needs TensorFlow and NumPy alone. QUESTIONS.npz holds arrays named SIGNATURE/in/NAME and SIGNATURE/out/NAME; bytes
are uint8 of the whole batch. Numbers must agree to 1e-4 of the largest, all else exactly but for one label in a
thousand.
"""

import sys

import numpy as np
import tensorflow as tf


def main(folder: str, questions: str) -> None:
    """Compare, and print one line; raise AssertionError where an answer is another one."""
    known = np.load(questions)
    names = sorted({key.split("/")[0] for key in known})
    signatures = tf.saved_model.load(folder).signatures
    assert set(signatures) - {"__saved_model_init_op"} == set(names), (sorted(signatures), names)
    worst = 0.0
    for name in names:
        parts = {key: known[key] for key in known if key.startswith(f"{name}/")}
        inputs = {key.split("/")[2]: tf.constant(value) for key, value in parts.items() if "/in/" in key}
        wanted = {key.split("/")[2]: value for key, value in parts.items() if "/out/" in key}
        found = {key: value.numpy() for key, value in signatures[name](**inputs).items()}
        assert set(found) == set(wanted), (name, sorted(found), sorted(wanted))
        for key, value in wanted.items():
            worst = max(worst, difference(f"{name}/{key}", found[key], value))
    print(f"TensorFlow {tf.__version__}: {len(names)} signatures, largest difference {worst:.1e}")


def difference(name: str, found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference of two answers, as a share of the largest number; 0 for what is no float."""
    if found.dtype.kind == "O":
        found = np.frombuffer(b"".join(found.tolist()), np.uint8)
    if name.endswith("image_bytes"):
        found, wanted = found.view("<f4"), wanted.view("<f4")
    assert found.shape == wanted.shape and found.dtype == wanted.dtype, (name, found.dtype, wanted.dtype)
    if wanted.dtype.kind != "f":
        # Two planes that are nearly equal may swap the label of a pixel.
        others = float(np.mean(found != wanted))
        assert others <= (1e-3 if "mask" in name else 0), (name, others)
        return 0.0
    share = float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30))
    assert share <= 1e-4, (name, share)
    return share


if __name__ == "__main__":
    main(*sys.argv[1:])
