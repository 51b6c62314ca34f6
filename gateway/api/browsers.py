"""What a browser brings along: pages of other sites. Which of them may call at all (CORS, only those that the operator
named), and that a cookie counts for nobody but the gateway's own page.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from flask import Flask, Request, Response, request

from gateway.errors import Forbidden, JobgateError

READING = ("GET", "HEAD", "OPTIONS")
BODIES = ("application/json", "multipart/form-data")
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
SENT = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, PROXY, Range, X-Request-ID"
SHOWN = "Content-Disposition, Content-Range, ETag, Link, Location, Retry-After, X-Request-ID, X-Total-Count"
PREFLIGHT_SECONDS = "600"


def check_own_page(asked: Request, base_url: str) -> None:
    """Refuse a call with the page's cookie that some other page makes. Raises Forbidden.

    Browsers say where a request comes from: in `Origin` with everything that changes something, and in `Sec-Fetch-Site`
    (not over plain HTTP). SameSite=Strict alone would let in other ports and names of the same site."""
    if asked.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise _refused("the request comes from another site")
    if asked.method in READING:
        return
    own = {urlsplit(base_url).netloc, asked.host}
    if urlsplit(asked.headers.get("Origin", "")).netloc not in own:
        raise _refused("the request does not come from the gateway's own page")
    if asked.content_length and asked.mimetype not in BODIES:
        raise _refused("the body must say that it is application/json")


def _refused(words: str) -> JobgateError:
    return Forbidden(f"{words}, so the cookie does not count; send PROXY or a token", code="cross_site")


def register(app: Flask, origins: Collection[str]) -> None:
    """Let the pages of these origins call, with a proxy or a token; cookies are never theirs to send."""
    if not origins:
        return

    @app.before_request
    def preflight() -> Response | None:
        asked_first = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return Response(status=204) if asked_first and request.headers.get("Origin") in origins else None

    @app.after_request
    def allow(response: Response) -> Response:
        response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if origin in origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = SHOWN
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = METHODS
                response.headers["Access-Control-Allow-Headers"] = SENT
                response.headers["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
        return response
