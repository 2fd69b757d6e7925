"""Adam in one pass over each weight."""

import keras
import tensorflow as tf

from synthmed.training.engine import lazy_settings


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam with TensorFlow's fused update in place of about ten operations a weight.

    On a CPU the update of millions of weights is bound by memory: one pass takes a third of the time. State, names and
    results are those of Keras's Adam (no AMSGrad).
    """

    def update_step(self, gradient, variable, learning_rate):
        """Update one weight; under a strategy Keras calls this for each replica's own copy."""
        dtype = variable.dtype
        step = tf.cast(self.iterations.value, dtype) + 1
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


def make_optimizer(learning_rate: float, every: int, network: keras.Model) -> FusedAdam:
    """Build the optimiser of a network.

    Args:
        learning_rate: Without lazy regularisation.
        every: Steps between those of the regulariser, 0 for none; see `losses.lazy_adam`.
        network: Whose trainable weights it updates.
    """
    optimizer = FusedAdam(**lazy_settings(learning_rate, every), name="adam")
    optimizer.build(network.trainable_variables)
    return optimizer
