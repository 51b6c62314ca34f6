"""/api/tokens: a bearer token in place of a proxy, so that a portal need not send a private key with every request."""

from typing import Any

from flask import Response, g, jsonify, request

from gateway.api.requests import ApiBlueprint, Parser, principal, read_json, secured, services
from gateway.api.schemas import TokenQuerySchema, TokenRequestSchema, TokenSchema, rfc3339
from gateway.api.session import sent_cookie
from gateway.errors import Forbidden, NotFound


class OptionalBody(Parser):
    """A body that may be missing stands for an empty object."""

    def load_json(self, req: Any, schema: Any) -> Any:
        body = req.get_data()
        return read_json(body) if body else {}


class TokenBlueprint(ApiBlueprint):
    ARGUMENTS_PARSER = OptionalBody()


blueprint = secured(TokenBlueprint("tokens", __name__, url_prefix="/api/tokens", description="Bearer tokens"))


@blueprint.post("")
@blueprint.arguments(TokenRequestSchema, required=False)
@blueprint.response(201, TokenSchema)
def make(body: dict[str, Any]) -> Response:
    """Make a token with a proxy"""
    if g.credential != "proxy":
        raise Forbidden("a token is made with a proxy; send it in the PROXY header")
    token, token_id, expires_at = services().authentication.tokens.make(principal(), body.get("lifetime"))
    response = jsonify({"token": token, "id": token_id, "expires_at": rfc3339(expires_at)})
    response.headers["Cache-Control"] = "no-store"
    response.status_code = 201
    return response


@blueprint.delete("")
@blueprint.arguments(TokenQuerySchema, location="query")
@blueprint.response(204)
def revoke(query: dict[str, Any]) -> Response:
    """Revoke a token; with a proxy and no id, all of yours"""
    tokens = services().authentication.tokens
    if "id" in query:
        if not tokens.revoke(principal(), token_id=query["id"]):
            raise NotFound(f"you have no token {query['id']}")
    elif g.credential == "token":
        tokens.revoke(principal(), token=request.headers["Authorization"].split()[1])
    elif g.credential == "cookie":
        tokens.revoke(principal(), token=sent_cookie())
    else:
        tokens.revoke(principal())
    return Response(status=204)
