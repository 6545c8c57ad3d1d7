"""Documentation of the API: it requires the same login, and the browser loads no file from another server."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

from event_hooks.api.compare_plans import ComparisonRequest
from event_hooks.api.examples import EXAMPLES
from event_hooks.api.problems import build_problem
from event_hooks.api.request_body import EVENT_SCHEMAS
from event_hooks.api.security import MAY_READ

router = APIRouter(include_in_schema=False)

FOLDER = Path(str(files("fastapi_swagger.resources")))
PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}
FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")


@router.get("/openapi.json", dependencies=[MAY_READ])
async def openapi(request: Request) -> dict[str, Any]:
    """Return the OpenAPI document."""
    servers = [{"url": request.scope.get("root_path") or "/"}]
    return {**build_document(request.app), "servers": servers}


def build_document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an app, without its address."""
    document: dict[str, Any] = app.openapi()
    document["components"]["schemas"] |= EVENT_SCHEMAS
    document["components"]["schemas"]["ComparisonRequest"] = ComparisonRequest.model_json_schema()
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                _complete_response(operation["operationId"], status, response)
    return document


def _complete_response(operation_id: str, status: str, response: dict[str, Any]) -> None:
    """Add an example, and the media type of errors, which FastAPI documents as JSON; idempotent."""
    content = response.get("content", {}).get("application/json")
    if content is None:
        return
    if content["schema"] == PROBLEM_SCHEMA:
        response["content"] = {"application/problem+json": content}
        content["example"] = build_problem(int(status), response["description"])
    else:
        content["example"] = EXAMPLES[operation_id][status]


@router.get("/apidocs", dependencies=[MAY_READ])
async def apidocs(request: Request) -> HTMLResponse:
    """Return the Swagger UI page, on which each example can be sent."""
    root = request.scope.get("root_path", "")
    script, style, icon = (f"{root}/apidocs/{name}" for name in FILES)
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="event hooks",
        swagger_js_url=script,
        swagger_css_url=style,
        swagger_favicon_url=icon,
    )
    page.headers["Content-Security-Policy"] = _build_policy(bytes(page.body).decode())
    return page


def _build_policy(page: str) -> str:
    """Return a Content-Security-Policy with which only the page's own inline script runs."""
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    ]
    return (
        f"default-src 'none'; script-src 'self' {' '.join(hashes)}; style-src 'self' 'unsafe-inline';"
        " connect-src 'self'; img-src 'self' data:; frame-ancestors 'self'; base-uri 'none'"
    )


@router.get("/apidocs/{name}", dependencies=[MAY_READ])
async def file(name: str) -> FileResponse:
    """Return a script, style sheet or icon of the page."""
    if name not in FILES:
        raise HTTPException(404, "no such file")
    return FileResponse(FOLDER / name)
