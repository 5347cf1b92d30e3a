"""The OpenAPI document of a server, and a page that shows it without fetching anything from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from .. import __version__
from ..common.console import json_text
from ..models.runtimes import ENCODED, INPUT, OUTPUT
from .protocols import BYTES, CLASSES, DTYPES, SIGNATURE, Served
from .service import MIB, Settings

JSON = "application/json"
OWN, TF_SERVING, INFERENCE, OPERATION = "Pictures", "TensorFlow Serving", "Open Inference Protocol v2", "Operation"
_REASONS = {
    "400": "Malformed.",
    "404": "Unknown model or version.",
    "408": "The request took too long to arrive.",
    "413": "The body or a picture is too large, or there are too many pictures.",
    "415": "Unsupported content type or encoding.",
    "422": "No picture could be read.",
    "503": "The model is not ready, or the queue is full: try again after Retry-After.",
}


def make_document(name: str, served: Served | None, settings: Settings) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server.

    Args:
        name: The model's name in addresses.
        served: The description of the model; None before it is warm, which leaves out its size and classes.
        settings: The limits of the server, which the document states.
    """
    # The schemas of images, tensors and answers.
    size = list(served.size) if served else ["height", "width"]
    side = [{"type": "integer"}] if served is None else [{"const": each} for each in served.size]
    pixels = {
        "description": f"RGB pixels of 0 to 255, {size[0]} × {size[1]} × 3",
        "type": "array",
        "items": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    }
    file = {"type": "object", "required": ["b64"], "properties": {"b64": {"type": "string", "format": "byte"}}}
    number, text = {"type": "number"}, {"type": "string"}
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"const": INPUT},
            "datatype": {"enum": [*DTYPES, BYTES]},
            "shape": {"type": "array", "items": {"type": "integer"}, "examples": [[1, *size, 3]]} | _prefix(side),
            "data": {"type": "array", "description": "numbers; for BYTES, picture files in base64"},
            "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer"}}},
        },
    }
    top = {
        "name": "top",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1},
        "description": "Classes per picture; by default 5 or, with several labels, those that reach their thresholds.",
    }
    prediction = {
        "type": "object",
        "properties": {
            "path": text | {"description": "the name of the file, if one was sent"},
            "top": {"type": "array", "items": {"type": "array", "prefixItems": [text, number]}},
            "error": {"type": ["string", "null"], "description": "why this picture could not be read"},
        },
    }
    answers = {
        "type": "object",
        "properties": {"predictions": {"description": f"probabilities; with signature {ENCODED!r}, class names too"}},
    }
    picture = text | {"format": "binary"}
    files_of = {"type": "object", "properties": {"image": {"type": "array", "items": picture}}}
    # The addresses.
    example = "curl --data-binary @IMAGE HOST:PORT/predict"
    tf, oip = f"/v1/models/{name}", f"/v2/models/{name}"
    paths = {
        "/predict": {
            "post": _operation(
                OWN,
                "The most probable classes of pictures",
                f"Send one picture file as the body, or several as a form. `{example}`",
                parameters=[top],
                body={"image/*": picture, "application/octet-stream": picture, "multipart/form-data": files_of},
                gives={"type": "array", "items": prediction},
                refused=("400", "408", "413", "415", "422", "503"),
            )
        },
        f"{tf}:predict": {
            "post": _operation(
                TF_SERVING,
                "Predict",
                f"Each instance is the bytes of a picture file as {{'b64': …}}, or pixels. With the signature "
                f"{ENCODED!r}, the answer includes class names.",
                body={
                    JSON: {
                        "type": "object",
                        "properties": {
                            "signature_name": {"enum": [SIGNATURE, ENCODED]},
                            "instances": {"type": "array", "items": {"anyOf": [file, pixels]}},
                            "inputs": {"type": "array", "items": {"anyOf": [file, pixels]}},
                        },
                    }
                },
                gives=answers,
                refused=("400", "404", "408", "413", "415", "503"),
            )
        },
        tf: {"get": _operation(TF_SERVING, "The model's state", "AVAILABLE once it is warm.", refused=("404",))},
        f"{tf}/metadata": {
            "get": _operation(TF_SERVING, "The model's signatures", "Names, types and shapes.", refused=("404", "503"))
        },
        f"{oip}/infer": {
            "post": _operation(
                INFERENCE,
                "Infer",
                f"One input, {INPUT!r}, as pixels or as picture files; the outputs are {OUTPUT!r} and {CLASSES!r}. "
                "Binary tensors may follow the JSON (header Inference-Header-Content-Length).",
                body={
                    JSON: {
                        "type": "object",
                        "required": ["inputs"],
                        "properties": {
                            "id": text,
                            "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1},
                            "outputs": {"type": "array", "items": {"type": "object", "properties": {"name": text}}},
                        },
                    }
                },
                gives={"type": "object", "properties": {"outputs": {"type": "array", "items": {"type": "object"}}}},
                refused=("400", "404", "408", "413", "415", "503"),
            )
        },
        oip: {"get": _operation(INFERENCE, "The model's tensors", "Names, types and shapes.", refused=("404", "503"))},
        f"{oip}/ready": {
            "get": _operation(
                INFERENCE, "Whether the model is warm", "Status 200 if so, otherwise 503.", refused=("404", "503")
            )
        },
        "/v2": {"get": _operation(INFERENCE, "The server", "Its name, version and extensions.")},
        "/v2/health/live": {"get": _operation(OPERATION, "Whether the server runs", "Status 200.")},
        "/v2/health/ready": {
            "get": _operation(
                OPERATION, "Whether pictures are accepted", "Status 200 if so, otherwise 503.", refused=("503",)
            )
        },
        "/metrics": {
            "get": _operation(OPERATION, "Counters and times", "In the text format of Prometheus.", kind="text/plain")
        },
    }
    # The description states the model and the limits.
    bounds = (
        f"Bodies of at most {settings.max_upload / MIB:g} MiB, pictures of at most {settings.max_pixels:,} pixels, "
        f"{settings.max_queue} pictures at once, batches of {settings.max_batch}."
    )
    about = f"{len(served.class_names)} classes" if served and served.class_names else "embeddings"
    what = f"{served.platform}, {size[0]}×{size[1]} pixels, {about}. " if served else "It is not ready yet. "
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": __version__, "description": what + bounds},
        "paths": paths,
        "components": {
            "schemas": {"Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}}
        },
    }


def _prefix(side: list[dict[str, Any]]) -> dict[str, Any]:
    return {"description": f"[n, {', '.join(str(each.get('const', 'side')) for each in side)}, 3]; for BYTES [n]"}


def _operation(
    tag: str,
    summary: str,
    description: str,
    *,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, dict[str, Any]] | None = None,
    gives: dict[str, Any] | None = None,
    refused: tuple[str, ...] = (),
    kind: str = JSON,
) -> dict[str, Any]:
    error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    schema = gives or ({"type": "object"} if kind == JSON else {"type": "string"})
    found: dict[str, Any] = {
        "tags": [tag],
        "summary": summary,
        "description": description,
        "responses": {
            "200": {"description": "The answer.", "content": {kind: {"schema": schema}}},
            **{status: {"description": _REASONS[status], "content": error} for status in refused},
        },
    }
    if parameters:
        found["parameters"] = parameters
    if body:
        content = {kind: {"schema": schema} for kind, schema in body.items()}
        found["requestBody"] = {"required": True, "content": content}
    return found


def make_page(document: dict[str, Any]) -> tuple[str, str]:
    """The document as an HTML page with a form to try an image, and the page's Content-Security-Policy."""
    sections: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            sections.setdefault(operation["tags"][0], []).append(_section(path, method, operation))
    style, script = _asset("docs.css"), _asset("docs.js")
    page = Template(_asset("docs.html")).substitute(
        title=escape(document["info"]["title"]),
        description=escape(document["info"]["description"]),
        sections="\n".join(f"<h2>{escape(tag)}</h2>\n{''.join(each)}" for tag, each in sections.items()),
        style=style,
        script=script,
    )
    policy = f"script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src 'self'; img-src blob:"
    return page, f"default-src 'none'; {policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    verb = method.upper()
    return (
        f'<details><summary><span class="verb {method}">{verb}</span> <code>{escape(path)}</code> '
        f"<span>{escape(operation['summary'])}</span></summary>"
        f"<p>{_with_code(operation['description'])}</p>{''.join(_parts(operation))}</details>\n"
    )


def _parts(operation: dict[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        yield f"<p><code>?{escape(parameter['name'])}=</code> {escape(parameter['description'])}</p>"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<h3>Request <code>{escape(kind)}</code></h3>{_schema(content['schema'])}"
    rows = []
    for status, response in operation["responses"].items():
        (kind, content), *_ = response["content"].items()
        if status == "200":
            yield f"<h3>Response <code>{escape(kind)}</code></h3>{_schema(content['schema'])}"
        rows.append(f"<tr><td>{escape(status)}</td><td>{escape(response['description'])}</td></tr>")
    yield f"<h3>Status</h3><table>{''.join(rows)}</table>"


def _schema(schema: dict[str, Any]) -> str:
    if set(schema) <= {"type", "format"}:
        return ""
    return f"<pre>{escape(json_text(schema, indent=2))}</pre>"


def _with_code(text: str) -> str:
    """Text with `code` in it, as HTML."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
