"""Whether a signature approves a change: asked by a command, by the gateway that applies it, by its next start."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from edge.approval.change import MEANING, NAMESPACE, Change, names_of, same_person
from edge.approval.signers import Signer, Signers
from edge.approval.sshsig import Refused, Signature

_SHORT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """A change that was approved, by whom."""

    change: Change
    text: bytes
    signature: Signature
    signer: Signer
    meaning: str = MEANING


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and when a change is to be made, as whoever judges knows by itself.

    Attributes:
        old: SHA-256 of the configuration that runs, in hexadecimal, and `new` of that of the files.
        body: the difference between them; see `edge.approval.change.body`.
        account: who applies it.
        now_s: UTC, in s.
    """

    gateway: str
    old: str
    new: str
    body: str
    account: str
    now_s: int


def judge(head: str, sha256: str, armour: str, signers: Signers, place: Place) -> Approved:
    """Who approved a change, by the head of its text, the SHA-256 of all of it in hexadecimal, and the signature.

    Raises:
        Refused: it is not approved; the sentence says why.
    """
    change = Change.from_head(head)
    if change.gateway != place.gateway:
        raise Refused("gateway", f"it was proposed for gateway {change.gateway}, and this is {place.gateway}")
    if change.old != place.old:
        raise Refused("base", f"it was proposed when configuration {change.old[:_SHORT]} ran, and {place.old[:_SHORT]} "
                              "runs: propose it anew")  # fmt: skip
    if change.new != place.new:
        raise Refused("files", f"the files are configuration {place.new[:_SHORT]}, and {change.new[:_SHORT]} was "
                               "proposed: put those files back, or propose these")  # fmt: skip
    text = (change.head + place.body).encode()
    if hashlib.sha256(text).hexdigest() != sha256:
        raise Refused("altered", "the text was altered: it says another difference than there is between the files and "
                                 "what runs; propose it anew")  # fmt: skip
    signature = Signature.from_armour(armour.encode())
    signature.verify(signature.digest(text), NAMESPACE)
    signer = signers.signer(signature, place.now_s)
    for name in sorted(signers.named(signature.key)):
        for other in sorted(change.proposers | names_of(place.account)):
            if same_person(name, other):
                did = "proposed" if other in change.proposers else "applies"
                raise Refused("self", f"{name} signed what {other} {did}: a second person has to approve it")
    return Approved(change=change, text=text, signature=signature, signer=signer)
