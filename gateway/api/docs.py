"""The OpenAPI document's head, and Swagger UI from the installed bundle, so that it loads with no internet."""

import importlib.metadata
from typing import Any

from flask import Blueprint, Flask, Response, send_from_directory
from flask_smorest import Api
from swagger_ui_bundle import swagger_ui_path

from gateway.api.errors import ErrorSchema, ItemErrorSchema
from gateway.api.schemas import ShortJobSchema
from gateway.config import Config

blueprint = Blueprint("docs", __name__)
VERSION = importlib.metadata.version("jobgate")
ABOUT = """One authenticated HTTP front door for every batch system.

Every call under `/api` takes the header `PROXY` (your grid proxy file in base64, no line breaks) or
`Authorization: Bearer <token>`. Every mistake is answered in the shape `Error`."""


def settings(config: Config) -> dict[str, Any]:
    """flask-smorest's settings."""
    return {
        "API_TITLE": "Jobgate",
        "API_VERSION": VERSION,
        "OPENAPI_VERSION": "3.0.3",
        "OPENAPI_URL_PREFIX": "/api",
        "OPENAPI_JSON_PATH": "openapi.json",
        "OPENAPI_SWAGGER_UI_PATH": "docs",
        "OPENAPI_SWAGGER_UI_URL": "/api/docs/assets/",
        "API_SPEC_OPTIONS": {
            "info": {"description": ABOUT},
            "security": [{"proxy": []}, {"token": []}],
        },
    }


class DescribedApi(Api):
    """What holds for every call: the shape of errors, and how to authenticate."""

    ERROR_SCHEMA = ErrorSchema

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        self.spec.components.schema("ShortJob", schema=ShortJobSchema)
        self.spec.components.schema("ItemError", schema=ItemErrorSchema)
        scheme = self.spec.components.security_scheme
        scheme("proxy", {"type": "apiKey", "in": "header", "name": "PROXY"})
        scheme("token", {"type": "http", "scheme": "bearer"})


@blueprint.get("/api/docs/assets/<path:name>")
def asset(name: str) -> Response:
    return send_from_directory(swagger_ui_path, name, max_age=86400)
