"""The API documentation, served from this package alone, and health on the API's own port."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse

from services.rating.routes.context import ContextDep
from services.rating.routes.queries import NO_STORE
from services.runtime.telemetry import as_report, run_checks

ASSETS = Path(__file__).parent.parent / "static" / "swagger-ui"
ASSETS_URL = "/docs/assets"

# The browser itself refuses what the page must not do: load anything from another host.
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'"
)

router = APIRouter()


@router.get("/docs", include_in_schema=False)
def docs() -> HTMLResponse:
    """Swagger UI over /openapi.json."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Smartpipe rating API",
        swagger_js_url=f"{ASSETS_URL}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS_URL}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS_URL}/favicon-32x32.png",
        swagger_ui_parameters={"validatorUrl": None},
    )
    page.headers["Content-Security-Policy"] = _POLICY
    return page


@router.get("/healthz/live", tags=["health"], operation_id="live")
async def live() -> JSONResponse:
    """Whether the process serves at all."""
    return JSONResponse({"status": "ok", "checks": {}}, headers=NO_STORE)


@router.get("/healthz/ready", tags=["health"], operation_id="ready", responses={503: {"description": "Not ready."}})
async def ready(context: ContextDep) -> JSONResponse:
    """Whether the service can do all its work: database, schema, log, ledger, outbox."""
    found = await run_checks(context.ready)
    well = all(health.ok for health in found.values())
    return JSONResponse(as_report(found), 200 if well else 503, headers=NO_STORE)
