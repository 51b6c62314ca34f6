"""/api/session: who you are; and signing in to the gateway's own page, which keeps a token in a cookie that no script
can read."""

from typing import Any

from flask import Response, g, jsonify, request
from marshmallow import Schema, fields

from gateway.api import browsers
from gateway.api.errors import ErrorSchema
from gateway.api.requests import ApiBlueprint, principal, secured, services
from gateway.api.schemas import rfc3339
from gateway.errors import Forbidden
from gateway.model import Principal

blueprint = secured(ApiBlueprint("session", __name__, url_prefix="/api/session", description="Session"))


class SessionSchema(Schema):
    """Who asks, and until when its proxy, token or session is good."""

    subject = fields.String(required=True)
    accounts = fields.List(fields.String(), required=True, metadata={"description": "the default first"})
    admin = fields.Boolean(required=True)
    expires_at = fields.String(required=True, metadata={"format": "date-time"})


@blueprint.get("")
@blueprint.response(200, SessionSchema)
def show() -> Response:
    """Who you are"""
    return jsonify(_session(principal()))


@blueprint.post("")
@blueprint.response(201, SessionSchema)
@blueprint.alt_response(403, schema=ErrorSchema, description="not with a proxy, or from another site's page")
def sign_in() -> Response:
    """Sign in with a proxy: a cookie takes its place in this browser"""
    if g.credential != "proxy":
        raise Forbidden("one signs in with a proxy; send it in the PROXY header")
    config = services().config
    if "Origin" in request.headers:
        browsers.check_own_page(request, config.gateway.base_url)
    authentication = services().authentication
    token, _, expires_at = authentication.tokens.make(principal(), config.portal.session_lifetime)
    response = jsonify(_session(principal()) | {"expires_at": rfc3339(expires_at)})
    response.status_code = 201
    response.headers["Cache-Control"] = "no-store"
    response.set_cookie(authentication.cookie, token, **_kept())
    return response


@blueprint.delete("")
@blueprint.response(204)
def sign_out() -> Response:
    """Sign out: the cookie's token is revoked"""
    if token := sent_cookie():
        services().authentication.tokens.revoke(principal(), token=token)
    response = Response(status=204)
    response.delete_cookie(services().authentication.cookie, **_kept())
    return response


def sent_cookie() -> str | None:
    """The token in the cookie that was sent."""
    return request.cookies.get(services().authentication.cookie)


def _kept() -> dict[str, Any]:
    """How a browser keeps the cookie: until it is closed."""
    secure = services().config.gateway.base_url.startswith("https:")
    return {"path": "/", "secure": secure, "httponly": True, "samesite": "Strict"}


def _session(who: Principal) -> dict[str, Any]:
    return {
        "subject": who.subject,
        "accounts": who.accounts,
        "admin": who.admin,
        "expires_at": rfc3339(who.expires_at),
    }
