"""Export as SavedModel, an embedded server that follows TensorFlow Serving, and a client for both."""
