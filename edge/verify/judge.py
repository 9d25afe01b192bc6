"""The verdict on one record, from its signature and what is known of its chain."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from edge.seal.codec import Payload
from edge.seal.cose import Frame
from edge.seal.keys import PublicKey
from edge.seal.payloads import Checkpoint, Epoch, certificates_of_epoch
from edge.seal.record import RecordType
from edge.verify.history import History
from edge.verify.trust import Trust, leaf_key
from edge.verify.verdicts import Verdict

_public_key = lru_cache(1024)(PublicKey)


class Opinion(NamedTuple):
    """A verdict, why, whether nothing can change it, and the keys that did not sign."""

    verdict: Verdict
    reason: str
    is_final: bool
    tried: tuple[bytes, ...]


def judge(trust: Trust, history: History, frame: Frame, tried: tuple[bytes, ...] = ()) -> Opinion:
    """What the signature is worth; `tried` are keys that are known not to have made it."""
    keys, is_final = allowed_keys(trust, history, frame)
    if not keys:
        if is_final:
            return Opinion(Verdict.UNTRUSTED, "its identity is not among the trust anchors", True, ())
        return Opinion(Verdict.UNVERIFIABLE, "its key is not known yet", False, ())
    for key in keys:
        if key.raw not in tried and key.has_signed(frame.alg, frame.signature, frame.signed):
            return Opinion(Verdict.AUTHENTIC, "", True, ())
    tried = tuple(key.raw for key in keys)
    if _is_signed_by_another(trust, history, frame, keys, is_final=is_final):
        return Opinion(Verdict.UNTRUSTED, "signed by a key that is not allowed here", is_final, tried)
    if any(key.kid == frame.kid for key in keys):
        return Opinion(Verdict.ALTERED, "the signature is not that of the key it names", is_final, tried)
    if is_final:
        return Opinion(Verdict.UNTRUSTED, "it names a key that is not allowed here", True, tried)
    return Opinion(Verdict.UNVERIFIABLE, "its key is not known yet", False, tried)


def allowed_keys(trust: Trust, history: History, frame: Frame) -> tuple[list[PublicKey], bool]:
    """The keys allowed at a place as far as is known, and whether others are excluded."""
    if not frame.type.is_identity_signed:
        return list(map(_public_key, history.keys_at(frame.seq))), history.is_settled(frame.seq)
    if history.is_identity_final and history.identity is not None:
        return [history.identity], True
    pinned = trust.pinned(frame.kid, frame.issuer)
    if frame.type is RecordType.EPOCH:
        key = pinned or leaf_key(certificates_of_epoch(frame.payload))
        return [key] if key else [], True
    key = history.identity or pinned
    return [key] if key else [], False


def _is_signed_by_another(
    trust: Trust, history: History, frame: Frame, allowed: list[PublicKey], *, is_final: bool
) -> bool:
    others = [history.identity, trust.pinned(frame.kid, frame.issuer)]
    if is_final:
        # Before that, a key known from a later place may be the one that a missing KEY introduced.
        others.append(history.known_key(frame.kid))
    return any(
        key is not None and key not in allowed and key.has_signed(frame.alg, frame.signature, frame.signed)
        for key in others
    )


def refusal(trust: Trust, frame: Frame, content: Payload) -> tuple[Verdict, str] | None:
    """Why a record whose signature is good does not count all the same."""
    if isinstance(content, Checkpoint) and (content.size != frame.seq or content.head != frame.prev):
        return Verdict.FORK, "the checkpoint vouches for another history than its own"
    if isinstance(content, Epoch) and trust.pinned(frame.kid, frame.issuer) is None:
        at_ns = content.time.as_of_ns + content.time.offset_ns
        why = trust.vouches_for(content.certificates, frame.issuer, at_ns)
        return (Verdict.UNTRUSTED, why) if why else None
    return None
