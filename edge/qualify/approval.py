"""Checks the approval by a second person: a change is signed as ssh-keygen does it, and judged as apply judges it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace

from edge.approval.change import NAMESPACE, Change, body
from edge.approval.judge import Place, judge
from edge.approval.signers import Signer, Signers
from edge.approval.sshsig import Refused
from edge.qualify.checks import Outcome
from edge.seal.keys import SigningKey

_NOW_S = 1_767_225_600
_KIND = b"ecdsa-sha2-nistp256"
_BODY = body(["devices[press].every from 1 s to 2 s"], [])
_CHANGE = Change(
    gateway="line-4", proposed_by="anna", at="2026-01-01T00:00:00Z", why="qualification", files="line-4.yaml",
    old="00" * 32, new="11" * 32,
)  # fmt: skip
_PLACE = Place(gateway="line-4", old=_CHANGE.old, new=_CHANGE.new, body=_BODY, account="root", now_s=_NOW_S)


def _part(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _number(data: bytes) -> bytes:
    """A number of SSH: in its shortest form, and not negative."""
    shortest = data.lstrip(b"\0")
    return _part(b"\0" * (shortest[0] >> 7) + shortest)


class _Approver:
    """Somebody with a key."""

    def __init__(self) -> None:
        self._key = SigningKey.generate()
        point = b"\x04" + self._key.public.raw
        self.key = _part(_KIND) + _part(b"nistp256") + _part(point)

    def sign(self, text: str, namespace: str = NAMESPACE) -> str:
        parts = _part(namespace.encode()) + _part(b"") + _part(b"sha512")
        raw = self._key.sign(b"SSHSIG" + parts + _part(hashlib.sha512(text.encode()).digest()))
        signature = _part(_KIND) + _part(_number(raw[:32]) + _number(raw[32:]))
        blob = b"SSHSIG" + (1).to_bytes(4, "big") + _part(self.key) + parts + _part(signature)
        return f"-----BEGIN SSH SIGNATURE-----\n{base64.b64encode(blob).decode()}\n-----END SSH SIGNATURE-----\n"


async def approval() -> Outcome:
    """One that counts, and one of each kind that must not."""
    approver, stranger = _Approver(), _Approver()
    listed = Signer(name="berta", key=approver.key, role="Head of quality")
    text = _CHANGE.head + _BODY

    def asked(
        *, place: Place = _PLACE, signer: Signer = listed, signed: str = "", said: str = text
    ) -> Callable[[], object]:
        sha256 = hashlib.sha256(said.encode()).hexdigest()
        return lambda: judge(_CHANGE.head, sha256, signed or approver.sign(text), Signers([signer]), place)

    cases = {
        "of the proposer": asked(signer=replace(listed, name="anna")),
        "of who applies it": asked(place=replace(_PLACE, account="berta")),
        "of an altered text": asked(said=text + "- more\n"),
        "over another text": asked(signed=approver.sign(text + " ")),
        "in another namespace": asked(signed=approver.sign(text, "file")),
        "of a stranger": asked(signed=stranger.sign(text)),
        "with an expired key": asked(signer=replace(listed, to_s=_NOW_S - 1)),
        "for another gateway": asked(place=replace(_PLACE, gateway="line-5")),
        "on an older base": asked(place=replace(_PLACE, old="22" * 32)),
    }
    lines, wrong = [], []
    asked()()  # Raises where a right one is refused.
    for name, ask in cases.items():
        try:
            ask()
        except Refused as refused:
            lines.append(f"{name}: {refused}")
        else:
            wrong.append(name)
    told = f"accepted all the same: {', '.join(wrong)}" if wrong else f"{len(lines)} others are refused"
    return Outcome(f"the signature of a second person counts; {told}", not wrong, "\n".join(lines))
