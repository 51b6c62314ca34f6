"""Moves everything from one database to another, as from SQLite to PostgreSQL."""

from sqlalchemy import Column, Connection, Table, func, insert, select, text

from gateway.errors import Conflict
from gateway.store.database import Database
from gateway.store.tables import events, jobs, metadata

ROWS = 1000  # at a time
COUNTED = (jobs.c.number, events.c.id)


def copy(source: Database, target: Database) -> dict[str, int]:
    """Copy every row, all or none; gives how many there are of each table. The source is not written to meanwhile where
    it is SQLite; otherwise stop its gateways. Raises Conflict where the target has rows already."""
    if source.revision() != source.newest_revision():
        raise Conflict("the old database is not at this version's revision; run `jobgate migrate` on it first")
    target.migrate()
    with source.writing() as here, target.writing() as there:
        for table in metadata.sorted_tables:
            if _count(there, table):
                raise Conflict(f"the new database is not empty: there are rows in {table.name}")
        counts = {table.name: _copy_table(table, here, there) for table in metadata.sorted_tables}
        for column in COUNTED:
            _set_counter(there, column, _counter(here, column))
    return counts


def _copy_table(table: Table, here: Connection, there: Connection) -> int:
    query = select(table).order_by(*table.primary_key).execution_options(yield_per=ROWS)
    for rows in here.execute(query).mappings().partitions():
        there.execute(insert(table), [dict(row) for row in rows])
    if (count := _count(there, table)) != (wanted := _count(here, table)):
        raise Conflict(f"{table.name}: {wanted} rows became {count}; is a gateway still running?")
    return count


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _counter(connection: Connection, column: Column) -> int:
    """The greatest number that was ever given, as far as the database remembers."""
    if connection.dialect.name == "sqlite":
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :table").bindparams(table=column.table.name)
        return connection.execute(query).scalar() or 0
    return connection.execute(select(func.max(column))).scalar() or 0


def _set_counter(connection: Connection, column: Column, number: int) -> None:
    if not number:
        return
    if connection.dialect.name == "sqlite":
        query = "UPDATE sqlite_sequence SET seq = :number WHERE name = :table"
        connection.execute(text(query), {"number": number, "table": column.table.name})
    else:
        query = "SELECT setval(pg_get_serial_sequence(:table, :column), :number)"
        connection.execute(text(query), {"table": column.table.name, "column": column.name, "number": number})
