"""Warm-up: the requests that lie in a SavedModel, run before its version is offered."""

from pathlib import Path

from synthmed.errors import UserError
from synthmed.serving.servable import Servable
from synthmed.serving.status import ServingError

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST = 1000


def warm_up(servable: Servable) -> int:
    """Run the Predict requests of the warm-up file and return how many there were; 0 without a file.

    The first call of a signature prepares its graph and takes many times longer than later ones.

    Raises:
        UserError: If a record is damaged or the model refuses it, as TensorFlow Serving fails the load then.
    """
    path = servable.path / FILE
    if not path.is_file():
        return 0
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    from synthmed.serving.predict import predict

    count = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).take(MOST).as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") == "predict_log":
                predict(servable, log.predict_log.request)
            count += 1
    except (tf.errors.OpError, DecodeError, ServingError) as error:
        reason = str(error).strip().splitlines()
        told = reason[0] if reason else type(error).__name__
        raise UserError(f"{path}: warm-up request {count} fails ({told}): export the model again") from error
    return count
