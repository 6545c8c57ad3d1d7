"""Documentation of the API: it requires the same login, and the browser loads no file from another server."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

from event_hooks.api.security import MAY_READ

router = APIRouter(include_in_schema=False)

FOLDER = Path(str(files("fastapi_swagger.resources")))
FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")


@router.get("/openapi.json", dependencies=[MAY_READ])
async def openapi(request: Request) -> dict[str, Any]:
    """Return the OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    return {**document, "servers": [{"url": request.scope.get("root_path") or "/"}]}


@router.get("/apidocs", dependencies=[MAY_READ])
async def apidocs(request: Request) -> HTMLResponse:
    """Return the Swagger UI page, on which each example can be sent."""
    root = request.scope.get("root_path", "")
    script, style, icon = (f"{root}/apidocs/{name}" for name in FILES)
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="event hooks",
        swagger_js_url=script,
        swagger_css_url=style,
        swagger_favicon_url=icon,
    )


@router.get("/apidocs/{name}", dependencies=[MAY_READ])
async def file(name: str) -> FileResponse:
    """Return a script, style sheet or icon of the page."""
    if name not in FILES:
        raise HTTPException(404, "no such file")
    return FileResponse(FOLDER / name)
