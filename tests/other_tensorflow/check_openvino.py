"""Ask a SavedModel's default signature with OpenVINO, and compare with known answers.

    python check_openvino.py FOLDER QUESTIONS.npz

It needs OpenVINO and NumPy alone. QUESTIONS.npz holds arrays named in/NAME and out/NAME. FOLDER is a SavedModel, whose
default signature is the one that OpenVINO reads.
"""

import sys

import numpy as np
import openvino
from openvino.frontend import ConversionExtension, FrontEndManager


def main(folder: str, questions: str) -> None:
    """Compare, and print one line; raise AssertionError where an answer is another one."""
    known = np.load(questions)
    frontend = FrontEndManager().load_by_framework("tf")
    frontend.add_extension(ConversionExtension("Bitcast", _number))
    model = frontend.convert(frontend.load(folder))
    # Without the hint OpenVINO calculates in bfloat16 where the processor has it.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = {}
    for port in compiled.inputs:
        name = next(key for key in known if key.startswith("in/") and any(_means(key[3:], one) for one in port.names))
        inputs[port] = known[name]
    found = compiled(inputs)
    worst = 0.0
    for key in [key for key in known if key.startswith("out/")]:
        wanted = known[key]
        value = next(value for value in found.values() if value.shape == wanted.shape and value.dtype == wanted.dtype)
        if wanted.dtype.kind == "f":
            worst = max(worst, float(np.abs(value - wanted).max() / np.abs(wanted).max()))
        else:
            assert np.mean(value != wanted) <= 1e-3, key
    assert worst <= 1e-4, worst
    print(f"OpenVINO {openvino.__version__}: largest difference {worst:.1e}")


def _number(node):
    # Keras asks for the sign of zeros by their bits before it takes the largest plane. OpenVINO has no such operation;
    # by value no zero is negative, which is what the largest plane is about.
    from openvino import opset13

    return opset13.convert(node.get_input(0), "i32").outputs()


def _means(name: str, tensor: str) -> bool:
    """Return whether a tensor of the graph is an input of this name: SIGNATURE_NAME:0."""
    return tensor == name or tensor.partition(":")[0].endswith(f"_{name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
