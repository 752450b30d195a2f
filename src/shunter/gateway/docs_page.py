"""The API described: the OpenAPI document, and a page made of it that needs nothing from the internet."""

from __future__ import annotations

import html
from typing import Any

import msgspec
from litestar import Litestar

from shunter.domain.job import JobSpec


def openapi(app: Litestar) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document. Bodies that are read by hand, for their errors, get their schema here."""
    document: dict[str, Any] = app.openapi_schema.to_schema()
    schemas, components = msgspec.json.schema_components([JobSpec], ref_template="#/components/schemas/{name}")
    document.setdefault("components", {}).setdefault("schemas", {}).update(components)
    one = schemas[0]
    body = {"oneOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": 1000}]}
    ids = {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 1000}
    cancel = {"type": "object", "properties": {"ids": ids}, "required": ["ids"], "additionalProperties": False}
    reason = {"type": "string", "minLength": 1, "maxLength": 200}
    cordon = {"type": "object", "properties": {"reason": reason}, "additionalProperties": False}
    bodies = {
        "/v1/jobs": body, "/v1/jobs/cancel": cancel, "/v1/nodes/{name}/cordon": cordon, "/v1/nodes/{name}/lost": cordon
    }  # fmt: skip
    for path, schema in bodies.items():
        document["paths"][path]["post"]["requestBody"] = {
            "required": schema is not cordon,
            "content": {"application/json": {"schema": schema}},
        }
    return document


def page(document: dict[str, Any]) -> str:
    """Return *document* as one HTML page."""
    rows = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if isinstance(operation, dict) and "responses" in operation:
                rows.append(_operation(path, method, operation))
    schemas = "".join(
        f"<section id='{html.escape(name)}'><h3>{html.escape(name)}</h3>{_schema(schema)}</section>"
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    title = html.escape(f"{document['info']['title']} {document['info']['version']}")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        "<meta name=viewport content='width=device-width'>"
        f"<style>{_STYLE}</style><main><h1>{title}</h1>"
        "<p>Every call but the health check needs <code>Authorization: Bearer TOKEN</code>. "
        "The same as a document: <a href=/openapi.json>/openapi.json</a>.</p>"
        f"<h2>Calls</h2>{''.join(rows)}<h2>Types</h2>{schemas}</main></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{html.escape(one['name'])}</code> ({html.escape(one['in'])}"
        f"{', required' if one.get('required') else ''}) {html.escape(one.get('description') or '')}</li>"
        for one in operation.get("parameters", ())
    )
    body = operation.get("requestBody", {}).get("content", {})
    takes = ", ".join(_name(content.get("schema", {})) for content in body.values())
    answers = []
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            content = response.get("content", {}).values()
            answers.append(f"{status} {', '.join(_name(one.get('schema', {})) for one in content)}")
    return (
        f"<article><h3><b class={method}>{method.upper()}</b> <code>{html.escape(path)}</code></h3>"
        f"<p>{html.escape(operation.get('description') or operation.get('summary') or '')}</p>"
        + (f"<ul>{parameters}</ul>" if parameters else "")
        + (f"<p>Body: {takes}</p>" if takes else "")
        + f"<p>Answer: {'; '.join(answers)}</p></article>"
    )


def _schema(schema: dict[str, Any]) -> str:
    about = f"<p>{html.escape(schema.get('description') or '')}</p>"
    if "enum" in schema:
        return about + "<p>one of " + ", ".join(f"<code>{html.escape(str(v))}</code>" for v in schema["enum"]) + "</p>"
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code>{'' if name in required else ' <i>optional</i>'}<td>{_name(one)}"
        for name, one in schema.get("properties", {}).items()
    )
    return about + (f"<table>{rows}</table>" if rows else "")


def _name(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = html.escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    for union in ("oneOf", "anyOf"):
        if union in schema:
            return " or ".join(_name(one) for one in schema[union])
    if "const" in schema:
        return f"<code>{html.escape(str(schema['const']))}</code>"
    if schema.get("properties"):
        inner = (f"<code>{html.escape(name)}</code>: {_name(one)}" for name, one in schema["properties"].items())
        return f"{{ {', '.join(inner)} }}"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_name(schema.get('items') or {})}"
    return html.escape(" or ".join(kind) if isinstance(kind, list) else str(kind))


_STYLE = """
:root{color-scheme:light dark;--line:#8884}body{font:16px/1.5 system-ui,sans-serif;margin:0}
main{max-width:56rem;margin:2rem auto;padding:0 1rem}
article,section{border:1px solid var(--line);border-radius:.5rem;padding:.2rem 1rem;margin:.8rem 0}
h3{margin:.5rem 0;font-size:1rem}b{display:inline-block;min-width:3.2rem}.get{color:#1a7f37}.post{color:#0969da}
table{border-collapse:collapse;width:100%;margin-bottom:.6rem}td{border-top:1px solid var(--line);padding:.2rem .5rem}
code{font-size:.9em}p{margin:.4rem 0;white-space:pre-line}"""
