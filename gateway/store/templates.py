"""Keeps the templates that users made."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, or_, select, update

from gateway.store.database import Database, insert_unless_there, now
from gateway.store.tables import templates


class TemplateStore:
    """Templates by owner and name. A body is what the template's maker sent."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def visible(self, owner: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Owner and body of one's own templates, then of those that others share; each by name."""
        query = (
            select(templates.c.owner, templates.c.body)
            .where(or_(templates.c.owner == owner, templates.c.shared))
            .order_by((templates.c.owner != owner), templates.c.name, templates.c.owner)
        )
        with self.database.reading() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]

    def add(self, owner: str, body: Mapping[str, Any]) -> bool:
        """False where the owner has one of that name already."""
        at = now()
        row = {"owner": owner, "name": body["name"], "shared": bool(body.get("shared")), "body": body}
        with self.database.writing() as connection:
            return insert_unless_there(connection, templates, row | {"created_at": at, "updated_at": at})

    def replace(self, owner: str, body: Mapping[str, Any]) -> bool:
        """False where the owner has none of that name."""
        mine = (templates.c.owner == owner, templates.c.name == body["name"])
        values = {"shared": bool(body.get("shared")), "body": body, "updated_at": now()}
        with self.database.writing() as connection:
            return connection.execute(update(templates).where(*mine).values(**values)).rowcount == 1

    def delete(self, owner: str, name: str) -> bool:
        """False where the owner has none of that name."""
        mine = (templates.c.owner == owner, templates.c.name == name)
        with self.database.writing() as connection:
            return connection.execute(delete(templates).where(*mine)).rowcount == 1
