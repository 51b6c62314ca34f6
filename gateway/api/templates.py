"""/api/templates: job templates, one's own and those that others share."""

from collections.abc import Mapping
from typing import Any, cast

from flask import Response, g, jsonify

from gateway.api.requests import ApiBlueprint, principal, read_json, secured, services
from gateway.api.schemas import NamedInUrlSchema, TemplateSchema
from gateway.errors import ConfigError
from gateway.plugin_manager import Plugins
from gateway.templates import Template

blueprint = secured(ApiBlueprint("templates", __name__, url_prefix="/api/templates", description="Job templates"))


@blueprint.get("")
@blueprint.response(200, TemplateSchema(many=True))
def list_templates() -> Response:
    """List the templates that you can use, by name"""
    return jsonify([_shown(template) for template in services().templates.visible(principal())])


@blueprint.post("")
@blueprint.arguments(TemplateSchema)
@blueprint.response(201, TemplateSchema)
def add(_: dict[str, Any]) -> Response:
    """Make a template"""
    response = jsonify(_shown(services().templates.add(principal(), _body())))
    response.status_code = 201
    return response


@blueprint.get("/<name>")
@blueprint.response(200, TemplateSchema)
def show(name: str) -> Response:
    """Show a template"""
    return jsonify(_shown(services().templates.get(principal(), name)))


@blueprint.put("/<name>")
@blueprint.arguments(NamedInUrlSchema)
@blueprint.response(200, TemplateSchema)
def replace(_: dict[str, Any], name: str) -> Response:
    """Replace one of your templates"""
    return jsonify(_shown(services().templates.replace(principal(), _body() | {"name": name})))


@blueprint.delete("/<name>")
@blueprint.response(204)
def delete(name: str) -> Response:
    """Delete one of your templates"""
    services().templates.delete(principal(), name)
    return Response(status=204)


def _body() -> dict[str, Any]:
    """What was sent, as it was sent, checked already. An owner that came along with a template is nobody's choice."""
    return {name: value for name, value in read_json(g.body).items() if name != "owner"}


def _shown(template: Template) -> dict[str, Any]:
    return {"shared": template.owner is None, **template.body, "owner": template.owner}


def brought(plugins: Plugins, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The templates of plugins. Raises ConfigError where the API would refuse one."""
    found = [body for several in plugins.hook.register_templates(options=options) for body in several]
    for body in found:
        if mistakes := TemplateSchema().validate(body):
            raise ConfigError([f"a plugin's template {body.get('name')!r}: {mistakes}"])
    return found


def loaded(template: Template) -> dict[str, Any]:
    """The template's fields, as a request's would be."""
    return cast(dict[str, Any], TemplateSchema().load(template.body))
