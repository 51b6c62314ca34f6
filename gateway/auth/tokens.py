"""Bearer tokens: made with a proxy, never living longer than it, kept as a hash."""

import hashlib
import secrets
import uuid
from datetime import datetime, timedelta

from gateway.errors import Unauthenticated
from gateway.model import Principal
from gateway.store import TokenStore, now

PREFIX = "jg_"  # lets secret scanners find a token that was committed by mistake


class Tokens:
    """Makes, checks and revokes tokens. `lifetime` is the longest one, in seconds."""

    def __init__(self, store: TokenStore, lifetime: int) -> None:
        self.store = store
        self.lifetime = lifetime

    def make(self, principal: Principal, lifetime: int | None = None) -> tuple[str, str, datetime]:
        """A new token, its id, and when it ends."""
        token = PREFIX + secrets.token_urlsafe(32)
        token_id = str(uuid.uuid4())
        wanted = now() + timedelta(seconds=min(lifetime or self.lifetime, self.lifetime))
        expires_at = min(wanted, principal.expires_at)
        self.store.add(token_id, _hash(token), principal.subject, expires_at)
        return token, token_id, expires_at

    def owner(self, token: str) -> tuple[str, datetime]:
        """Whose token it is and when it ends. Raises Unauthenticated."""
        found = self.store.find(_hash(token))
        if found is None:
            raise Unauthenticated(
                "this token is unknown, revoked or expired; make another with POST /api/tokens and your proxy",
                code="token_invalid",
            )
        return found

    def revoke(self, principal: Principal, *, token_id: str | None = None, token: str | None = None) -> int:
        """Revoke one token, or all of the caller's. Gives how many."""
        return self.store.delete(principal.subject, token_id=token_id, token_hash=_hash(token) if token else None)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
