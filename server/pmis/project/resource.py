"""Projects over HTTP."""

from __future__ import annotations

from typing import Final

from pmis.approval.resource import Resource
from pmis.kit.listing import Listing
from pmis.project.models import TABLE
from pmis.project.noun import PROJECTS

RESOURCE: Final = Resource(
    path="projects",
    noun=PROJECTS,
    listing=Listing(TABLE, orders={"created_at": "id"}, default_order="created_at"),
    code_column="prefix",
    related=("select approval_id from state.approval_target where target_id = %s",),
)
