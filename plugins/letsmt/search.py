"""Searching metadata: each word of a query is a condition, and all must hold (the repository's page on metadata, and
its database's source for what that leaves open)."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from .answers import INVALID, Entry, Fault

Records = Mapping[str, Mapping[str, str]]
Matching = Callable[[str, list[str]], list[bool]]
PATH = "_ID_"
NOT = "NOT_"
OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "STARTS_WITH_": str.startswith,
    "ENDS_WITH_": str.endswith,
    "INCLUDES_": lambda value, asked: asked in value,
    "ONE_OF_": lambda value, asked: bool(_items(value) & _items(asked)),
    "ALL_OF_": lambda value, asked: _items(asked) <= _items(value),
    "MIN_": lambda value, asked: (number := _number(value)) is not None and number >= _asked(asked),
    "MAX_": lambda value, asked: (number := _number(value)) is not None and number <= _asked(asked),
}
REGEX = "REGEX_"
SUMS: Mapping[str, Callable[[Iterable[float]], float]] = {"MIN_": min, "MAX_": max, "SUM_": sum}


def matches(records: Records, conditions: Iterable[tuple[str, str]], matching: Matching) -> list[str]:
    """The paths of the records for which all conditions hold. `matching` tells what a regular expression matches. A
    record without the key meets no condition on it but a `NOT_`. Raises Fault."""
    paths = sorted(records)
    for name, asked in conditions:
        negated = name.startswith(NOT)
        operator, key = _operator(name.removeprefix(NOT))
        values = [path if key == PATH else records[path].get(key) for path in paths]
        met = _met(operator, values, asked, matching)
        paths = [path for path, yes in zip(paths, met, strict=True) if yes != negated]
    return paths


def _operator(name: str) -> tuple[str, str]:
    for operator in (*OPERATORS, REGEX):
        if name.startswith(operator) and name != operator:
            return operator, name.removeprefix(operator)
    return "", name


def _met(operator: str, values: Sequence[str | None], asked: str, matching: Matching) -> list[bool]:
    if operator == REGEX:
        yes = iter(matching(asked, [value for value in values if value is not None]))
        return [value is not None and next(yes) for value in values]
    if operator in ("MIN_", "MAX_"):
        _asked(asked)
    test = OPERATORS.get(operator, str.__eq__)
    return [value is not None and test(value, asked) for value in values]


def found(records: Records, paths: list[str], action: str) -> list[Entry]:
    """The answer's entries: `action` is list_ids, list_all, count, or MIN_, MAX_ or SUM_ with a key."""
    if action == "count":
        return [_result({"count": str(len(paths))})]
    if action == "list_all":
        return [Entry({"path": path}, elements(records[path])) for path in paths]
    for word, total in SUMS.items():
        if action.startswith(word):
            key = action.removeprefix(word)
            numbers = [n for path in paths if (n := _number(records[path].get(key, ""))) is not None]
            return [_result({action: f"{total(numbers):.15g}" if numbers else ""} | {"count": str(len(paths))})]
    if action not in ("", "list_ids"):
        words = "list_ids, list_all, count, MIN_key, MAX_key and SUM_key"
        raise Fault(INVALID, f"Invalid action {action!r}: there are {words}")
    return [Entry({"path": path}) for path in paths]


def _result(values: Mapping[str, str]) -> Entry:
    return Entry({"type": "search result"}, values)


def elements(record: Mapping[str, str]) -> dict[str, str]:
    """A record's elements, in the order of their names, without what could not be one."""
    return dict(sorted(record.items()))


def _items(text: str) -> set[str]:
    return {item for item in text.split(",") if item}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number else None  # nan is no number


def _asked(text: str) -> float:
    number = _number(text)
    if number is None:
        raise Fault(INVALID, f"Invalid number {text!r}")
    return number
