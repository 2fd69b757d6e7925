"""Requests that TensorFlow Serving runs before a version is announced, so that the first user does not wait."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthmed.serving.tensors import to_tensor
from synthmed.serving.wire import message

if TYPE_CHECKING:
    from synthmed.serving.signatures import Signature

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"


def write_warmup(path: Path, *, model: str, signatures: Iterable["Signature"]) -> None:
    """Write a TFRecord with one `PredictionLog` for each signature.

    Each asks for one item: a server that batches refuses to load a version whose warm-up is larger than its largest
    batch, and on a processor another batch size costs nothing to meet for the first time.
    """
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            request = message("PredictRequest")()
            request.model_spec.name, request.model_spec.signature_name = model, signature.name
            for name, (kind, shape) in signature.inputs.items():
                request.inputs[name].CopyFrom(to_tensor(np.zeros([size or 1 for size in shape], kind)))
            log = message("PredictionLog")(predict_log=message("PredictLog")(request=request))
            writer.write(log.SerializeToString(deterministic=True))
