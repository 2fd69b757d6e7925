"""What a model says of its signatures, as TensorFlow Serving tells it."""

from typing import Any

from synthmed.serving.servable import Servable


def metadata_json(servable: Servable) -> dict[str, Any]:
    """Return the JSON of a metadata request: 64-bit integers as strings, every field printed."""
    from google.protobuf import json_format

    signatures = {
        name: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, definition in servable.signatures.items()
    }
    return {
        "model_spec": {"name": servable.name, "version": str(servable.version), "signature_name": ""},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
