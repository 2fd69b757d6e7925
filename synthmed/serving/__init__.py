"""Export as SavedModel, an embedded server that follows TensorFlow Serving, and a client for both."""

from synthmed.serving.remote import GeneratorClient

__all__ = ["GeneratorClient"]
