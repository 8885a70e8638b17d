"""LeaseRequest: a lane asks for a slice of a campaign's budget, or gives one back. Topic `ott.lease-requests.v1`.

A lane writes into its own partition, whatever the key: so all that one lane has ever asked stands in order. Totals are
counted from the lane's first day, so a request that is read twice, or after a later one, changes nothing.
The answer to an ask is the command `grant_lease` (`schemas.command`).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.fields import EpochMs, Id, Version

LEASE_REQUEST_MAJOR = "1"
LEASE_REQUEST_VERSION = "1.0"

RequestKind = Literal["ask", "return"]

_Total = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One lane's word about its slices of one campaign's budget. Key = campaign id, partition = the lane's."""

    version: Annotated[Version, Meta(description="Contract version; this is 1.0.")]
    request_id: Annotated[Id, Meta(description="Unique: `<campaign id>:<partition>:<sequence>`.")]
    campaign_id: Annotated[Id, Meta(description="Whose budget; equals the record's key.")]
    partition: Annotated[int, Meta(ge=0, description="The lane.")]
    sequence: Annotated[
        Annotated[int, Meta(ge=1)],
        Meta(description="Number of the request among the lane's for this campaign, from 1 without gaps."),
    ]
    kind: Annotated[RequestKind, Meta(description="`ask`: for the next slice; `return`: what is held is given back.")]
    granted_octets: Annotated[_Total, Meta(description="All that the lane was ever granted, octets.")]
    used_octets: Annotated[_Total, Meta(description="All that its flows ever drew, octets.")]
    returned_octets: Annotated[_Total, Meta(description="All that it ever gave back, this request included, octets.")]
    at_ms: Annotated[EpochMs, Meta(description="Wall clock of the lane's transaction.")]
