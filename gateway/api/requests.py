"""What every request goes through: its id, who asks, and how its body is read."""

import json
import logging
import math
import re
import time
import uuid
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import urlencode

import marshmallow as ma
from flask import Flask, Request, Response, current_app, g, request
from flask_smorest import Blueprint
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import RequestEntityTooLarge

from gateway.api import browsers
from gateway.audit import Origin, origin
from gateway.errors import BadRequest, Unprocessable
from gateway.logs import request_id
from gateway.model import Principal
from gateway.options import flatten
from gateway.transport.caller import speak_for

if TYPE_CHECKING:
    from gateway.api import Services

log = logging.getLogger("gateway.access")
GOOD_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")
DEEPEST = 32


def services() -> "Services":
    """What the application was wired with."""
    return cast("Services", current_app.extensions["jobgate"])


def principal() -> Principal:
    """Who asks. Set before any view of a `secured` blueprint runs."""
    return cast(Principal, g.principal)


def next_page(cursor: object) -> str:
    """The header `Link` of a list that goes on: this request's URL with another cursor."""
    more = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
    url = f"{request.path}?{urlencode([*more, ('cursor', cursor)])}"
    return f'<{services().config.gateway.base_url}{url}>; rel="next"'


def secured(blueprint: Blueprint) -> Blueprint:
    """Every call of this blueprint needs a proxy or a token, before anything else of the request is looked at."""

    blueprint.before_request(identify)
    return blueprint


def identify() -> None:
    """Find out who asks: `principal()`. Raises Unauthenticated and Forbidden."""
    g.credential, g.principal = services().authentication.identify(dict(request.headers.items()))
    if g.credential == "cookie":
        browsers.check_own_page(request, services().config.gateway.base_url)
    speak_for(g.principal.subject, g.request_id)
    origin.set(Origin(request.remote_addr or "", g.credential, request.path))


def register(app: Flask) -> None:
    """Give each request an id, log it when it is done, and see that somebody keeps up with the schedulers."""

    @app.before_request
    def begin() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if GOOD_REQUEST_ID.match(given) else uuid.uuid4().hex
        g.begun = time.perf_counter()
        request_id.set(g.request_id)
        if services().config.gateway.ticker:
            services().ticker.start()

    @app.teardown_request
    def forget(_: BaseException | None) -> None:
        request_id.set("")  # the thread serves others next

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.get("request_id", "")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Cache-Control", "private, no-cache")
        who = g.get("principal")
        log.info(
            "%s %s %d",
            request.method,
            request.path,
            response.status_code,
            extra={
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "seconds": round(time.perf_counter() - g.get("begun", 0.0), 4),
                "subject": who.subject if who else None,
                "remote": request.remote_addr,
            },
        )
        return response


class Parser(FlaskParser):
    """Reads bodies as JSON whatever their Content-Type says (curl's --data sends a form type), and says what is wrong
    in the gateway's own errors."""

    def load_json(self, req: Request, schema: ma.Schema) -> Any:
        return read_json(read_body(req))

    def handle_error(self, error: ma.ValidationError, *args: Any, **kwargs: Any) -> NoReturn:
        messages = cast(dict[str, Any], error.messages)
        raise refusal({k: v for location in messages.values() for k, v in flatten({"": location}).items()})


class ApiBlueprint(Blueprint):
    ARGUMENTS_PARSER = Parser()


def read_body(req: Request) -> bytes:
    """The whole body, kept in `g.body` for who must know it byte by byte. Raises BadRequest where there is none."""
    g.body = req.get_data(cache=False)
    if len(g.body) >= (req.max_content_length or len(g.body) + 1):
        raise RequestEntityTooLarge  # a chunked body: werkzeug 3.1 just stops reading at the limit
    if not g.body:
        raise BadRequest("the body is empty; send JSON")
    return cast(bytes, g.body)


def refusal(errors: dict[str, list[str]]) -> Unprocessable:
    """422 that names the fields."""
    errors = {field or "body": words for field, words in errors.items()}
    message = "; ".join(f"{field}: {' '.join(words)}" for field, words in errors.items())
    return Unprocessable(message, errors=errors)


def read_json(body: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises BadRequest where it cannot be read, or could not be stored."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_not_json)
        _check(value, 0)
    except RecursionError:
        raise BadRequest(f"the JSON is nested deeper than {DEEPEST} levels") from None
    except (UnicodeDecodeError, ValueError) as problem:
        raise BadRequest(f"the body is not JSON: {problem}") from None
    return value


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _check(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise RecursionError
    if isinstance(value, str):
        value.encode()  # lone surrogates, "\ud800", are a ValueError here and not later in the database
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is out of range")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check(key, depth)
            _check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth + 1)
