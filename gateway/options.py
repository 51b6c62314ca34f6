"""How an option of the configuration is declared: once, typed, with its help text.

    @dataclass(frozen=True)
    class LocalOptions:
        slots: int = option(fields.Integer(strict=True, validate=Range(1)), 4, "how many jobs run at once")

`read` turns a TOML table into the dataclass, or says everything that is wrong with it.
"""

import dataclasses
import os
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from marshmallow import Schema, ValidationError, fields, validate

T = TypeVar("T")
REQUIRED: Any = dataclasses.MISSING
folder: ContextVar[Path] = ContextVar("folder of the configuration file", default=Path())


def option(kind: fields.Field, default: Any, help_text: str) -> Any:
    """A dataclass field: `kind` reads the value, `default` stands where it is missing (REQUIRED: it must be there)."""
    metadata = {"kind": kind, "help": help_text}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read(section: type[T], table: Mapping[str, Any]) -> tuple[T | None, dict[str, list[str]]]:
    """The section and no mistakes, or None and all mistakes by key (dotted where nested)."""
    try:
        return section(**schema_of(section)().load(dict(table))), {}
    except ValidationError as problem:
        return None, flatten(problem.normalized_messages())


def schema_of(section: type) -> type[Schema]:
    """The marshmallow schema of a section. Options that are not in the table are left to the dataclass's defaults."""
    kinds: dict[str, Any] = {}
    for declared in dataclasses.fields(section):
        kind = declared.metadata["kind"]
        kind.required = declared.default is REQUIRED and declared.default_factory is REQUIRED
        kinds[declared.name] = kind
    return Schema.from_dict(kinds, name=section.__name__)


def flatten(messages: Mapping[Any, Any], prefix: str = "") -> dict[str, list[str]]:
    """marshmallow's nested messages as lists of sentences by dotted key."""
    flat: dict[str, list[str]] = {}
    for key, value in messages.items():
        name = prefix if key == "_schema" else f"{prefix}.{key}".lstrip(".")
        if isinstance(value, Mapping):
            flat.update(flatten(value, name))
        else:
            flat[name] = list(value) if isinstance(value, list) else [str(value)]
    return flat


class FilePath(fields.String):
    """A path; a relative one is meant from the folder of the configuration file."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        return (folder.get() / Path(super()._deserialize(value, attr, data, **kwargs)).expanduser()).resolve()


class Secret(fields.String):
    """Text that may be kept elsewhere: `file:/path` (its content without the final newline) or `env:NAME`."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if text.startswith("file:"):
            try:
                return (folder.get() / text[5:]).read_text().rstrip("\n")
            except (OSError, UnicodeDecodeError) as problem:
                raise ValidationError(f"cannot read the secret: {problem}") from None
        if text.startswith("env:"):
            if text[4:] not in os.environ:
                raise ValidationError(f"the environment has no {text[4:]}")
            return os.environ[text[4:]]
        return text


SIZE_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


class Size(fields.Field):
    """A size: `"4GiB"`, `"512MiB"`, or an integer of MiB. Gives bytes."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        return parse_size(value)


def parse_size(value: Any) -> int:
    """Bytes of `"4GiB"`, `"512MiB"` or an integer of MiB. Raises ValidationError."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40:
        return value << 20
    if isinstance(value, str):
        number, unit = value[:-3].strip(), value[-3:]
        if unit in SIZE_UNITS and number.isascii() and number.isdigit() and 0 < len(number) < 12 and int(number):
            return int(number) * SIZE_UNITS[unit]
    raise ValidationError('write a size as "512MiB" or "4GiB" (KiB, MiB, GiB, TiB), or an integer of MiB')


def one_of(*words: str) -> validate.OneOf:
    return validate.OneOf(words, error="Must be one of: {choices}.")
