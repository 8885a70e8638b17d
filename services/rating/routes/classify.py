"""Our own API in CAMARA style: what a flow would be taken for, and why."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from schemas.classification import EvidenceKind, UnknownReason
from schemas.fields import Category
from services.engine.classify_explain import Explanation, Role, Weighed, asked_flow
from services.engine.hostnames import canonical_address
from services.rating.classification import Judge
from services.rating.database import reading
from services.rating.documents import Document, TmfModel, present
from services.rating.routes.context import Context, ContextDep
from services.rating.routes.ott_policy import BASE
from services.rating.routes.problems import ApiError, CamaraError, invalid
from services.rating.routes.queries import NO_STORE, check_names

MAX_NAME_CHARACTERS = 255
MAX_ADDRESS_CHARACTERS = 45

_KNOWN = ("server_name", "http_host", "remote_ip", "remote_port", "ip_protocol", "remote_as")

router = APIRouter(
    prefix=BASE, tags=["OTT policy"], responses={status: {"model": CamaraError} for status in (400, 503)}
)


class WeighedEvidence(TmfModel):
    """A piece of evidence and what it did for the verdict."""

    role: Role = Field(description="`no_say`: a name that points at no single application.")
    kind: EvidenceKind
    value: str = Field(description="What was asked, normalised.")
    matched: str | None = Field(None, description="The entry of the catalogue that covers it.")
    application: str | None = Field(None, description="The application that the entry belongs to.")
    confidence: int = Field(description="How far this evidence alone is trusted, 0-100.")


class FlowClassification(TmfModel):
    """What a flow would be, and why."""

    catalogue_version: str = Field(description="The one version that all of the answer comes from.")
    category: Category
    application: str | None = Field(None, description="Absent when the catalogue claims no such flow.")
    application_name: str | None = None
    service: str | None = Field(None, description="Service inside the application: chat, call, upload ...")
    confidence: int = Field(description="Trust in the verdict, 0-100; a rule's `min_confidence` is compared with it.")
    suspect: bool = Field(description="True when strong evidence disagrees.")
    reason: UnknownReason | None = Field(None, description="Why there is no application.")
    evidence: tuple[WeighedEvidence, ...] = Field((), description="Strongest first; the first one decided.")
    explanation: tuple[str, ...] = Field(description="The same in sentences, and what was tried in vain.")


@router.get("/classify", operation_id="classifyFlow", responses={200: {"model": FlowClassification}})
def classify(
    *,
    request: Request,
    context: ContextDep,
    server_name: Annotated[
        str | None, Query(max_length=MAX_NAME_CHARACTERS, description="TLS or QUIC server name.")
    ] = None,
    http_host: Annotated[str | None, Query(max_length=MAX_NAME_CHARACTERS, description="HTTP Host header.")] = None,
    remote_ip: Annotated[
        str | None, Query(max_length=MAX_ADDRESS_CHARACTERS, description="Far address, IPv4 or IPv6.")
    ] = None,
    remote_port: Annotated[int, Query(ge=0, le=65_535, description="Far port.")] = 443,
    ip_protocol: Annotated[int, Query(ge=0, le=255, description="IANA protocol number: 6 TCP, 17 UDP.")] = 6,
    remote_as: Annotated[
        int | None, Query(ge=0, le=2**32 - 1, description="Autonomous system of the far side; 0 = unknown.")
    ] = None,
) -> JSONResponse:
    """What a flow would be by the catalogue version in force, and why.

    Nothing is known of a subscriber here: what a lane remembers of one can tell more about a flow without a name.
    """
    check_names(request, _KNOWN)
    if server_name is None and http_host is None and remote_ip is None and remote_as is None:
        raise ApiError(400, "server_name, http_host, remote_ip and remote_as are all absent; give at least one of them")
    if remote_ip is not None and canonical_address(remote_ip) is None:
        raise invalid("query parameter 'remote_ip'", remote_ip, "give an IPv4 or IPv6 address")
    flow = asked_flow(
        server_name=server_name,
        http_host=http_host,
        remote_ip=remote_ip,
        remote_port=remote_port,
        ip_protocol=ip_protocol,
        remote_as=remote_as,
    )
    return JSONResponse(_document(_judge(context).explain(flow)), headers=NO_STORE)


def _judge(context: Context) -> Judge:
    with reading(context.engine) as connection:
        published = context.published.current(connection)
    if published is None:
        raise ApiError(503, "no catalogue version is in force yet; publish one, then ask again")
    return context.judges.of(published)


def _document(found: Explanation) -> Document:
    verdict = found.classification
    return present(
        {
            "catalogueVersion": found.catalogue_version,
            "category": verdict.category,
            "application": verdict.application,
            "applicationName": found.application_name,
            "service": verdict.service,
            "confidence": verdict.confidence,
            "suspect": verdict.suspect,
            "reason": verdict.reason,
            "evidence": [_evidence(item) for item in found.weighed],
            "explanation": [f"{label}: {text}" for label, text in found.told()],
        }
    )


def _evidence(item: Weighed) -> Document:
    evidence = item.evidence
    return present(
        {
            "role": item.role,
            "kind": evidence.kind,
            "value": evidence.value,
            "matched": evidence.matched,
            "application": evidence.application,
            "confidence": evidence.confidence,
        }
    )
