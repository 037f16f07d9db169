"""The SQL that sets one part of a derived row, and knows who is right when two facts set the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

Row: TypeAlias = tuple[Any, ...]
KeyOf: TypeAlias = Callable[[str], str]
"""A caller's number -> the number as it is compared."""
RowOf: TypeAlias = Callable[[str, Any, KeyOf], Row]
"""(system, fact, key_of) -> a statement's arguments."""


class Upsert(msgspec.Struct, frozen=True, gc=False):
    """Two statements, and how their arguments are read from a fact.

    Attributes:
        heard: For a fact that was heard on AMI.
        recovered: For one from Asterisk's own books, which is right wherever the two differ.
        row: (system, fact, key_of) -> the statement's arguments.
    """

    heard: str
    recovered: str
    row: RowOf


class Part(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one kind of fact sets in a row.

    Attributes:
        key, columns: Names, separated by blanks.
        shared: Of ``columns``, those that other kinds of fact set, too.
        unless_set: Of ``columns``, those that another fact knows better.
        guess: When a fact is but a guess that must not replace what is there: SQL, with
            ``new.`` and ``old.`` before columns.
        is_marked: The table says what in it is recovered.
    """

    table: str
    key: str
    columns: str
    shared: str = ""
    unless_set: str = ""
    guess: str = "false"
    is_marked: bool = True


def upsert_of(name: str, part: Part, row: RowOf) -> Upsert:
    """Write the statements for one kind of fact.

    Args:
        name: Of the kind.
    """
    if not part.is_marked:
        plain = _sql(part, {}, "false", "false")
        return Upsert(plain, plain, row)
    parts = (
        f"array(select distinct unnest({part.table}.recovered_parts || excluded.recovered_parts) order by 1)"
    )
    marks = {"recovered": ("true", "true"), "recovered_parts": (f"array['{name}']", parts)}
    guess = part.guess.replace("new.", "excluded.").replace("old.", f"{part.table}.")
    own = f"'{name}' = any({part.table}.recovered_parts) or {guess}"
    heard = _sql(part, {}, own, f"{part.table}.recovered or {guess}")
    return Upsert(heard, _sql(part, marks, "false", "false"), row)


def _sql(part: Part, marks: dict[str, tuple[str, str]], keep: str, keep_shared: str) -> str:
    """Write one upsert.

    Args:
        marks: Further columns: what they are in a new row, and in an old one.
        keep, keep_shared: When a column stays as it is.
    """
    table, key, columns = part.table, part.key.split(), part.columns.split()
    sets = [
        f"{name} = coalesce({table}.{name}, excluded.{name})"
        if name in part.unless_set.split()
        else f"{name} = case when {keep_shared if name in part.shared.split() else keep}"
        f" then {table}.{name} else excluded.{name} end"
        for name in columns
    ]
    sets += [f"{name} = {old}" for name, (_, old) in marks.items()]
    values = [f"${number}" for number in range(1, len(key) + len(columns) + 1)]
    values += [new for new, _ in marks.values()]
    return (
        f"insert into {table} ({', '.join([*key, *columns, *marks])}) "  # noqa: S608 - our own names
        f"values ({', '.join(values)}) on conflict ({', '.join(key)}) do update set {', '.join(sets)}"
    )
