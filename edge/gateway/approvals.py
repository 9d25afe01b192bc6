"""Approvals by a second person: the gateway refuses by itself, whatever a command has said before."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from edge.approval.judge import Place, judge
from edge.approval.signers import Signers
from edge.approval.sshsig import Refused
from edge.config.check_process import Site
from edge.config.kept import Pending, digest_on_record, file_of, unpack
from edge.config.settings import GatewaySettings
from edge.errors import ConfigError
from edge.files import replace_file
from edge.seal.approval import Approval

APPROVERS = "approvers.sha256"
"""In the state directory: the digest of the file of allowed signers that was put on record last."""
_HOW = ("this gateway is regulated, and a second person has to approve a change: tidegate propose writes what is to be "
        "signed")  # fmt: skip


def list_of(settings: GatewaySettings) -> Path | None:
    """The file of those who may approve; None where nobody is named."""
    return None if settings.approval is None else settings.approval.allowed_signers


def list_on_record(site: Site) -> tuple[bool, Path | None]:
    """Whether the configuration on record is regulated, and who may approve another one by it.

    A configuration that is started must not take itself out of what the one before asks for.
    """
    settings = site.settings
    with suppress(OSError, ValueError, AttributeError):
        before = unpack(file_of(settings.gateway.state, digest_on_record(settings.gateway.state)).read_bytes())
        named = (before.get("approval") or {}).get("allowed_signers")
        return before["gateway"].get("regulated") is True, None if named is None else Path(site.folder, named)
    return settings.gateway.regulated, list_of(settings)


def approved(
    asked: Pending, site: Site, old: bytes, file: Path | None, now_ns: int, *, is_regulated: bool
) -> bytes | None:  # fmt: skip
    """The approval of a configuration for its CONFIG record, None where it has none and needs none.

    Args:
        asked: who asks for it, why, and with which approval.
        site: the configuration.
        old: digest of the one that runs.
        file: of those who may approve.
        now_ns: UTC.
        is_regulated: whether an approval is needed, where there is such a file.

    Raises:
        Refused: it is not approved; the sentence says why.
    """
    if not asked.change:
        if is_regulated and file is not None:
            raise Refused("missing", _HOW)
        return None
    if file is None:
        raise Refused("unknown", "this gateway knows nobody who may approve: approval.allowed_signers names the file")
    place = Place(gateway=site.settings.gateway.name, old=old.hex(), new=site.digest.hex(), body=site.proposal,
                  account=asked.account, now_s=now_ns // 10**9)  # fmt: skip
    found = judge(asked.change, asked.sha256, asked.signature, signers_in(file), place)
    if found.change.why != asked.why:
        raise Refused("altered", "another reason was given than the one that was approved")
    signer, signature = found.signer, found.signature
    return Approval(
        name=signer.name, role=signer.role, meaning=found.meaning, fingerprint=signature.fingerprint,
        proposed_by=found.change.proposed_by, proposed_at=found.change.at, digest=signature.digest(found.text),
        signature=signature.blob, text=found.text,
    ).to_bytes()  # fmt: skip


def signers_in(file: Path) -> Signers:
    """Those in a file. Raises Refused where it cannot be read, or has an error."""
    try:
        return Signers.read(file)
    except OSError as error:
        raise Refused("signers", f"the file of allowed signers {file} cannot be read: {error.strerror}") from error
    except ConfigError as error:
        raise Refused("signers", f"the file of allowed signers has errors: {error.problems[0]}") from error


class ApproverList:
    """Watches the file of allowed signers, across starts too."""

    def __init__(self, state: Path) -> None:
        self._noted = state / APPROVERS
        self._old: str | None = None

    def changed(self, file: Path | None) -> tuple[str, str] | None:
        """The digests that were noted last and that are now, where they differ; empty for no file."""
        if self._old is None:
            self._old = ""
            with suppress(OSError):
                self._old = self._noted.read_text("ascii", "replace").strip()
        new = ""
        if file is not None:
            with suppress(OSError):
                new = hashlib.sha256(file.read_bytes()).hexdigest()
        if new == self._old:
            return None
        old, self._old = self._old, new
        return old, new

    def note(self) -> None:
        """Note that the change is on record. Raises OSError."""
        replace_file(self._noted, f"{self._old}\n".encode(), 0o640)
