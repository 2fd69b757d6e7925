"""Generators that ship with synthmed: NAME/VERSION/ as TensorFlow Serving reads them, each with its model card."""
