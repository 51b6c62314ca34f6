"""Keeps bearer tokens, as hashes only."""

from datetime import datetime

from sqlalchemy import delete, insert, select

from gateway.store.database import Database, now
from gateway.store.tables import tokens


class TokenStore:
    """Tokens of all owners. A token's text is never here, only its SHA-256 in hex."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, token_id: str, token_hash: str, owner: str, expires_at: datetime) -> None:
        """Keep a token's hash. Expired ones are dropped on the way."""
        at = now()
        row = {"id": token_id, "hash": token_hash, "owner": owner, "created_at": at, "expires_at": expires_at}
        with self.database.writing() as connection:
            connection.execute(delete(tokens).where(tokens.c.expires_at < at))
            connection.execute(insert(tokens).values(**row))

    def find(self, token_hash: str) -> tuple[str, datetime] | None:
        """Owner and end of a token that is still good."""
        query = select(tokens.c.owner, tokens.c.expires_at).where(tokens.c.hash == token_hash)
        with self.database.reading() as connection:
            row = connection.execute(query.where(tokens.c.expires_at > now())).one_or_none()
        return (row[0], row[1]) if row else None

    def delete(self, owner: str, *, token_id: str | None = None, token_hash: str | None = None) -> int:
        """Revoke one token by id or by hash, or all of an owner's. Gives how many there were."""
        query = delete(tokens).where(tokens.c.owner == owner)
        if token_id is not None:
            query = query.where(tokens.c.id == token_id)
        if token_hash is not None:
            query = query.where(tokens.c.hash == token_hash)
        with self.database.writing() as connection:
            return connection.execute(query).rowcount
