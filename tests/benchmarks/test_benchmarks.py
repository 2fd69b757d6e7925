import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def run(script, *arguments):
    command = [sys.executable, str(FOLDER / script), "--size", "tiny", "--rounds", "1", *arguments]
    lines = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).splitlines()
    assert len(lines) == 1
    return json.loads(lines[0])


@pytest.mark.long
def test_gan_step_measures_every_phase_against_its_bound():
    """A user would lose the figure by which a slower training step is noticed."""
    found = run("gan_step.py", "--precision", "bfloat16")
    assert found["per_second"] > 0 and found["gflop"] > 0
    assert found["share"] == pytest.approx(found["bound_ms"] / found["step_ms"], rel=1e-2)
    assert {name: phase["per_step"] for name, phase in found["phases"].items()} == {
        "main": 1,
        "path": 0.25,
        "penalty": 0.0625,
        "average": 1,
    }


@pytest.mark.long
def test_generation_measures_drawing_against_its_bound():
    """A user would not notice that drawing became slower."""
    found = run("generation.py", "--batch", "3", "--variant", "cond")
    assert found["batch"] == 3 and found["per_second"] > 0 and found["share"] > 0


@pytest.mark.long
def test_an_accelerator_is_measured_into_one_file(tmp_path):
    """A user who has a GPU for an hour would find at its end that a figure is missing."""
    python = os.environ.get("SYNTHMED_JAX_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import jax"], capture_output=True).returncode:
        pytest.skip("needs JAX: set SYNTHMED_JAX_PYTHON")
    environment = os.environ | {"PYTHON": python, "JAX_PLATFORMS": "cpu"}
    out = tmp_path / "gpu.json"
    subprocess.run([FOLDER / "gpu.sh", "--small", "--out", out], env=environment, check=True, capture_output=True)
    found = json.loads(out.read_text())
    for one in (*found["runs"], found["again"]):
        assert one["images_per_second"] > 0 and one["generated_per_second"] > 0 and one["memory_gib"] > 0, one
        assert one["share_of_product"] == pytest.approx(one["tflops"] / one["product_tflops"])
    assert found["again"]["first_step_s"] < found["runs"][0]["first_step_s"]


def test_the_operations_of_a_function_are_found_with_their_work(monkeypatch):
    """A user would be shown a share of a bound that leaves out half of the work."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import tensorflow as tf
    from operations import operations, timer

    @tf.function
    def twice(image, kernel, matrix):
        with tf.GradientTape() as tape:
            tape.watch((image, kernel))
            result = tf.reduce_sum(tf.nn.conv2d(image, kernel, 2, "VALID"))
        unused = tf.matmul(matrix, matrix)
        del unused
        return tape.gradient(result, (image, kernel)), tf.matmul(matrix, matrix, transpose_b=True)

    shapes = (1, 7, 9, 3), (3, 3, 3, 5), (4, 6)
    function = twice.get_concrete_function(*(tf.TensorSpec(shape) for shape in shapes[:2]), tf.TensorSpec((4, 4)))
    found = {operation.kind: (operation, count) for operation, count in operations([(function, 0.5)]).items()}
    # The forward convolution is of no consequence for these outputs, and one of the products for none.
    assert {kind: count for kind, (_, count) in found.items()} == {
        "Conv2DBackpropInput": 0.5,
        "Conv2DBackpropFilter": 0.5,
        "MatMul": 0.5,
    }
    convolution = 2e-9 * (1 * 3 * 4 * 5) * (3 * 3 * 3)
    assert found["Conv2DBackpropInput"][0].gflop == pytest.approx(convolution)
    assert found["Conv2DBackpropFilter"][0].gflop == pytest.approx(convolution)
    assert found["MatMul"][0].gflop == pytest.approx(2e-9 * 4 * 4 * 4)
    assert all(timer(operation, seconds=1e-3)().wall > 0 for operation, _ in found.values())


def test_data_pipeline_measures_both_ends_of_a_store():
    """A user would not notice that preparing or training input became slower, or that they fill the memory."""
    command = [sys.executable, str(FOLDER / "data_pipeline.py"), "--size", "tiny", "--rounds", "1", "--seconds", "0.1"]
    lines = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).splitlines()
    prepared, fed = (json.loads(line) for line in lines)
    assert prepared["benchmark"] == "prepare" and prepared["slices"] == 64 and prepared["per_second"] > 0
    assert fed["benchmark"] == "training input" and fed["per_second"] > 0 and "times_torchio" not in fed
    assert 0 < prepared["peak_rss_anon_gib"] < fed["peak_rss_anon_gib"] < 2


@pytest.mark.long
def test_unet_step_measures_training_and_inference(tmp_path):
    """A user would not notice that the U-Net became slower, or slower than what they would take instead."""
    alone = run("unet_step.py", "--steps", "1")
    assert alone["training_slices_per_second"] > 0 and alone["inference_volumes_per_second"] > 0
    assert "monai" not in alone
    # Stands in for an interpreter with MONAI: what counts here is that the two take turns and the quotient is right.
    other = tmp_path / "python"
    other.write_text('#!/bin/sh\necho \'{"version": "0"}\'\nwhile read line; do echo \'{"seconds": 0.5}\'; done\n')
    other.chmod(0o755)
    beside = run("unet_step.py", "--steps", "1", "--monai-python", str(other))
    assert beside["monai"]["training_slices_per_second"] == pytest.approx(2 / 0.5)
    assert beside["times_monai_inference"] == pytest.approx(0.5 * beside["inference_volumes_per_second"], rel=1e-2)


@pytest.mark.slow
def test_evaluation_measures_itself_beside_a_plain_search_for_neighbours():
    """A user with ten thousand slices would wait for hours, or run out of memory, without anyone noticing."""
    command = [sys.executable, str(FOLDER / "evaluation.py"), "--slices", "40", "--side", "16", "--patients", "4"]
    (line,) = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).splitlines()
    found = json.loads(line)
    assert found["figures"] > 10 and found["peak_memory_gib"] > 0
    assert found["ratio"] == pytest.approx(found["seconds"] / found["plain_neighbours_s"], rel=1e-2)
