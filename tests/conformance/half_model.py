"""The model `half` that the cases in rest_cases.jsonl were observed on."""

import sys

import tensorflow as tf


class Half(tf.Module):
    """Four signatures: one input, two inputs, strings, and one that divides by zero."""

    def __init__(self):
        self.a, self.b = tf.Variable(0.5), tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def half(self, x):
        return {"y": self.a * x + self.b}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([None, 2], tf.int32, name="k")]
    )
    def two(self, x, k):
        return {"y": self.a * x + self.b, "z": k * 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="img_bytes")])
    def raw(self, img_bytes):
        return {"len": tf.strings.length(img_bytes), "echo_bytes": img_bytes, "echo": img_bytes}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="n")])
    def nan(self, n):
        return {"y": tf.zeros([n, 2]) / 0.0}


def write(folder: str) -> None:
    """Write versions 1 and 2 to `folder`/half."""
    model = Half()
    signatures = {"serving_default": model.half, "two": model.two, "raw": model.raw, "nan": model.nan}
    for version in (1, 2):
        tf.saved_model.save(model, f"{folder}/half/{version}", signatures=signatures)


if __name__ == "__main__":
    write(sys.argv[1])
