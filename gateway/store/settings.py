"""What all gateways of one database must have in common and nobody configured."""

import secrets

from sqlalchemy import select

from gateway.store.database import Database, insert_unless_there
from gateway.store.tables import settings


class SettingsStore:
    """Small values by name, made when they are first asked for."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._known: dict[str, str] = {}

    def secret(self, name: str) -> str:
        """A random secret of 32 bytes in hex, the same for all gateways of this database."""
        if name not in self._known:
            with self.database.writing() as connection:
                insert_unless_there(connection, settings, {"name": name, "value": secrets.token_hex(32)})
                query = select(settings.c.value).where(settings.c.name == name)
                self._known[name] = connection.execute(query).scalar_one()
        return self._known[name]
