"""Starting from the weights of another run, as far as the two networks are alike."""

import math
from typing import Any

from synthmed.errors import UserError
from synthmed.training.run import Run

NETWORKS = ("generator", "average", "discriminator")
LEAST_SHARE = 0.5


def start_from(source: Run, state: dict[str, Any]) -> str:
    """Copy weights that stand at the same place and have the same shape; optimisers and the rest start anew.

    Networks for other numbers of channels or classes differ in their first or last layers alone; those keep the
    weights that they were made with.

    Args:
        source: The run to start from.
        state: The engine's variables by name.

    Returns:
        One line that says how much was taken over.

    Raises:
        UserError: If less than half of the weights fit, or the source has no whole checkpoint.
    """
    _, arrays, _ = source.last_arrays()
    wanted = {name: variable for name, variable in state.items() if name.split("/")[0] in NETWORKS}
    fitting = {
        name: variable
        for name, variable in wanted.items()
        if name in arrays and tuple(arrays[name].shape) == tuple(variable.shape)
    }
    share = _size(fitting) / _size(wanted)
    if share < LEAST_SHARE:
        raise UserError(
            f"{source.path} fits only {share:.0%} of the networks: it was trained with other sizes; give the same "
            f"channel_base ({source.options.channel_base}), channel_max ({source.options.channel_max}), z_dim and "
            "mapping_layers, and slices of the same size"
        )
    for name, variable in fitting.items():
        variable.assign(arrays[name])
    return f"{share:.0%} of the weights start from {source.path}, {len(wanted) - len(fitting)} arrays anew"


def _size(variables: dict[str, Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables.values())
