"""Number formats of the parts that must not compute in low precision."""

import keras


def at_least_float32(policy) -> str:
    """Return "float64" where a dtype policy keeps its weights in float64, else "float32".

    Styles, batch statistics and output planes lose too much in eight bits of mantissa. They stay in float32 under a
    mixed policy, and follow a network that is asked for in float64, which finite differences need.

    Args:
        policy: Keras dtype policy or its name.
    """
    return "float64" if keras.dtype_policies.get(policy).variable_dtype == "float64" else "float32"
