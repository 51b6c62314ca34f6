"""`$(APP_WORKSPACE)` and `$(USER_WORKSPACE)` in templates (tethys-jobs-api). The gateway fills in folders of the host,
a client those of its own machine."""

import re
from collections.abc import Mapping
from typing import Any

WORKSPACE = re.compile(r"\$\((APP_WORKSPACE|USER_WORKSPACE)\)")


def expand(value: Any, folders: Mapping[str, str]) -> Any:
    """The value with the variables filled in, in every text, however deep."""
    if isinstance(value, str):
        return WORKSPACE.sub(lambda found: folders[found[1]], value)
    if isinstance(value, dict):
        return {name: expand(inner, folders) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [expand(inner, folders) for inner in value]
    return value
