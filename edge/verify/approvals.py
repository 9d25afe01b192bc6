"""Whether the approval in a CONFIG record is what it says, by the file of allowed signers alone."""

from __future__ import annotations

from edge.approval.change import NAMESPACE, Change
from edge.approval.signers import Signers
from edge.approval.sshsig import Refused, Signature
from edge.seal import ConfigChange
from edge.seal.approval import Approval


def why_not_approved(change: ConfigChange, approval: Approval, signers: Signers) -> str:
    """Why an approval does not count, at the time of its record, as a sentence; empty where it does.

    A text that had no room in its record is not compared with the change: its signature is verified by its digest.
    """
    try:
        signature = Signature.from_blob(approval.signature)
        signature.verify(approval.digest, NAMESPACE)
        signer = signers.signer(signature, change.at_ns // 10**9)
        if approval.text:
            text = approval.text.decode("utf-8", "replace")
            said = Change.from_head(text)
            if signature.digest(approval.text) != approval.digest:
                return "the text on record is not the one that was signed"
            if (said.old, said.new) != (change.old_hash.hex(), change.new_hash.hex()):
                return "it is the approval of another change"
    except Refused as error:
        return str(error)
    return "" if signer.name == approval.name else f"it was signed by {signer.name}"
