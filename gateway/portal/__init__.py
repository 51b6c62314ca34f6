"""The gateway's own page, and `<jobgate-jobs>` for everybody else's. Files as they are: nothing is built, and nothing
comes from anywhere else."""

from pathlib import Path

from flask import Blueprint, Response, jsonify, request, send_from_directory

blueprint = Blueprint("portal", __name__)
STATIC = Path(__file__).parent / "static"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


@blueprint.get("/")
def home() -> Response:
    """The page; for a program, where it finds the API."""
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
        response = jsonify({"name": "Jobgate", "api": "/api/openapi.json", "docs": "/api/docs"})
    else:
        response = send_from_directory(STATIC, "index.html")
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["Referrer-Policy"] = "no-referrer"
    response.vary.add("Accept")
    return response


@blueprint.get("/static/<path:name>")
def static(name: str) -> Response:
    return send_from_directory(STATIC, name)
