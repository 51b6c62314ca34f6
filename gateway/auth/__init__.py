"""Who asks: from a request's headers to a Principal."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from werkzeug.http import parse_cookie

from gateway.auth.gridmap import GridMap
from gateway.auth.proxy import ProxyVerifier
from gateway.auth.tokens import Tokens
from gateway.config import AuthSection
from gateway.errors import Forbidden, Unauthenticated
from gateway.hookspecs import Authenticator
from gateway.model import Principal
from gateway.store import TokenStore

MISSING = (
    "no proxy certificate was sent; send the header PROXY with your proxy file in base64, as made by "
    "`base64 -w0 /tmp/x509up_u$(id -u)`, or `Authorization: Bearer <token>`"
)


class Authentication:
    """Identifies callers by proxy certificate, by bearer token, by a token in the page's `cookie`, or by a plugin's
    authenticator."""

    def __init__(
        self, config: AuthSection, store: TokenStore, authenticators: Iterable[Authenticator], cookie: str
    ) -> None:
        self.verifier = ProxyVerifier(
            config.trusted_ca_dir,
            require_crl=config.require_crl,
            require_signing_policy=config.require_signing_policy,
            allow_weak=config.allow_weak,
        )
        self.grid_map = GridMap(config.grid_mapfile)
        self.tokens = Tokens(store, config.token_lifetime)
        self.admins = frozenset(config.admins)
        self.authenticators = tuple(authenticators)
        self.cookie = cookie

    def identify(self, headers: Mapping[str, str]) -> tuple[str, Principal]:
        """How the caller showed who it is ("proxy", "token", "cookie" or "plugin"), and who it is. They count in
        this order.

        Raises Unauthenticated (401) or, for a good certificate that maps to no account, Forbidden (403).
        """
        headers = {name.lower(): value for name, value in headers.items()}
        proxy = headers.get("proxy")
        if proxy:
            verified = self.verifier.verify(proxy)
            return "proxy", self._principal(verified.subject, verified.expires_at)
        authorization = headers.get("authorization", "")
        if authorization:
            return "token", self._principal(*self.tokens.owner(_bearer(authorization)))
        if token := self.cookie_token(headers):
            return "cookie", self._principal(*self.tokens.owner(token))
        for authenticator in self.authenticators:
            if principal := authenticator(headers):
                return "plugin", principal
        raise Unauthenticated(MISSING, code="proxy_missing")

    def cookie_token(self, headers: Mapping[str, str]) -> str | None:
        """The token in the page's cookie. Names of headers in lower case."""
        return parse_cookie(headers.get("cookie", "")).get(self.cookie)

    def _principal(self, subject: str, expires_at: datetime) -> Principal:
        accounts = self.grid_map.accounts(subject)
        if not accounts:
            raise Forbidden(
                f"the certificate {subject} is good but not in this gateway's grid-mapfile; "
                "ask its administrators to map it to an account",
                code="not_mapped",
            )
        return Principal(subject, accounts, expires_at, subject in self.admins)


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("write `Authorization: Bearer <token>`, or send PROXY", code="authorization_unreadable")
    return token.strip()
