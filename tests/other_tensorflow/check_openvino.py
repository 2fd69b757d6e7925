"""Ask a SavedModel's default signature with OpenVINO, and compare with known answers.

    python check_openvino.py FOLDER QUESTIONS.npz

It needs OpenVINO and NumPy alone. QUESTIONS.npz holds arrays named in/NAME and out/NAME. FOLDER is a SavedModel, whose
default signature is the one that OpenVINO reads. Two operations have to be told to OpenVINO, see EXTENSIONS: without
the second one noise is NaN.
"""

import sys

import numpy as np
import openvino
from openvino import opset15 as ops
from openvino.frontend import ConversionExtension, FrontEndManager


def main(folder: str, questions: str) -> None:
    """Compare, and print one line; raise AssertionError where an answer is another one."""
    known = np.load(questions)
    frontend = FrontEndManager().load_by_framework("tf")
    for extension in EXTENSIONS:
        frontend.add_extension(extension)
    model = frontend.convert(frontend.load(folder))
    # Without the hint OpenVINO calculates in bfloat16 where the processor has it.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = {port: known[f"in/{_name(port)}"] for port in compiled.inputs}
    found = {_name(port): value for port, value in compiled(inputs).items()}
    worst = 0.0
    for key in [key for key in known if key.startswith("out/")]:
        value, wanted = found[key.removeprefix("out/")], known[key]
        assert value.shape == wanted.shape and value.dtype == wanted.dtype, key
        if wanted.dtype.kind == "f":
            share = float(np.abs(value - wanted).max() / np.abs(wanted).max())
            assert share <= 1e-4, (key, share)
            worst = max(worst, share)
        else:
            assert np.mean(value != wanted) <= 1e-3, key
    print(f"OpenVINO {openvino.__version__}: largest difference {worst:.1e}")


def _name(port) -> str:
    """Return what the signature calls a tensor; OpenVINO appends a number where an input and an output share a name."""
    return next(iter(port.names)).removesuffix("_1")


def _number(node):
    # Keras asks for the sign of zeros by their bits before it takes the largest plane. OpenVINO has no such operation;
    # by value no zero is negative, which is what the largest plane is about.
    return ops.convert(node.get_input(0), "i32").outputs()


def _shifted(node):
    # OpenVINO calculates unsigned numbers of 32 bits as signed ones, whose sign a shift to the right repeats.
    value, places = node.get_input(0), node.get_input(1)
    if value.get_element_type() == openvino.Type.i64:
        # The upper half of a seed, which is never negative.
        return ops.divide(value, ops.constant(np.array(2**32, np.int64))).outputs()
    one, two, last = (ops.constant(np.array(number, np.uint32)) for number in (1, 2, 31))
    kept = ops.subtract(ops.bitwise_left_shift(two, ops.subtract(last, places)), one)
    return ops.bitwise_and(ops.bitwise_right_shift(value, places), kept).outputs()


EXTENSIONS = [ConversionExtension("Bitcast", _number), ConversionExtension("RightShift", _shifted)]


if __name__ == "__main__":
    main(*sys.argv[1:])
