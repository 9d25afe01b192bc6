"""The approvals on record, as commands show them and verify them again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from edge.approval.signers import Signers
from edge.cli.output import ExistingPath
from edge.seal import ConfigChange
from edge.seal.approval import Approval
from edge.verify.approvals import why_not_approved

approvers_option = click.option(
    "--approvers", type=ExistingPath(path_type=Path, dir_okay=False), metavar="FILE",
    help="Verify the signatures of approvals, too, by a file of allowed signers.",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAnswer:
    """The approval of a change by a second person, as its record has it."""

    name: str
    role: str
    meaning: str
    """What the signature says."""
    proposed_by: str
    proposed_at: str
    """UTC. It was signed after that, and before the change was made: a signature of a person says no time."""
    fingerprint: str
    """Of the key, as ssh-keygen -l shows it."""
    check: str
    """Why --approvers does not confirm it; empty where it does, or was not given."""

    @classmethod
    def of(cls, change: ConfigChange, approvers: Signers | None) -> ApprovalAnswer | None:
        """That of a record."""
        approval = None if change.approval is None else Approval.from_bytes(change.approval)
        if approval is None:
            return None
        return cls(name=approval.name, role=approval.role, meaning=approval.meaning, proposed_by=approval.proposed_by,
                   proposed_at=approval.proposed_at, fingerprint=approval.fingerprint,
                   check="" if approvers is None else why_not_approved(change, approval, approvers))  # fmt: skip
