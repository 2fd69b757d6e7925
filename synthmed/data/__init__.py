"""From files to cases to prepared slices to tf.data."""
