"""Options as they were given on a command line, checked by the model that holds them."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from synthmed.errors import UserError

Options = TypeVar("Options", bound=BaseModel)


def checked(
    model: type[Options],
    values: Mapping[str, Any],
    *,
    begun: Options | None = None,
    flags: Mapping[str, str] | None = None,
) -> Options:
    """Return the checked options.

    Args:
        model: What holds them.
        values: What was given; None counts as not given.
        begun: Options of a run that is to be resumed, which stand in for what was not given.
        flags: Flags of options that have another name.

    Raises:
        UserError: If an option does not exist or has a wrong value; it is named by its flag.
    """
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return model.model_validate((begun.model_dump() if begun else {}) | given)
    except ValidationError as error:
        first = error.errors()[0]
        # Numbers say which of several values: the flag is the same.
        name = "-".join(part for part in first["loc"] if isinstance(part, str))
        flag = (flags or {}).get(name, name.replace("_", "-"))
        raise UserError(f"--{flag} {first.get('input')}: {first['msg'].lower()}") from None
