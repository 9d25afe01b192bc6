"""OPC UA servers that misuse certificates, signatures and encryption."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from drivers.opcua.certificates import der
from tests.support.hostile import liar
from tests.support.hostile import opcua_wire as wire
from tests.support.hostile.behaviour import Behaviour, Outcome
from tests.support.hostile.liar import Lie
from tests.support.hostile.opcua_certificates import (
    Certificates,
    fill,
    good,
    issued,
    signed_by_another,
    swapped,
    unknown,
    weak,
    with_,
)
from tests.support.hostile.opcua_common import BROKEN, GONE, GOOD, REFUSED, honest, values
from tests.support.hostile.opcua_parameters import OWN_URI
from tests.support.hostile.opcua_parameters import session as plain_session
from tests.support.hostile.opcua_request import Question, act, at
from tests.support.hostile.opcua_server import OTHER_URI, TOKEN, URI, Conversation, OpcuaLiar
from tests.support.hostile.opcua_wire import Reader
from tests.support.opcua.sealing import POLICY, SIGNATURE, Sealing, proof_wanted, signed


class SecuredConversation(Conversation):
    """One connection; the library opens and seals its messages."""

    def __init__(self, uris: Sequence[str], shown: Certificates) -> None:
        super().__init__(uris, values)
        self.shown = shown
        self._secure: Sealing | None = None
        self._asked = b""

    def frame(self, body: bytes, *, kind: bytes = b"MSG", request: int = 0, **wrong: Any) -> bytes:
        """See `Conversation.frame`; `is_plain` leaves security out."""
        is_plain = wrong.pop("is_plain", False)
        if self._secure is None or kind == b"ACK" or is_plain:
            return super().frame(body, kind=kind, request=request, **wrong)
        return self._secure.seal(body, kind, request)

    def endpoints(self) -> list[bytes]:
        """See `Conversation.endpoints`."""
        return [self.shown.endpoint()]

    def session(self, **wrong: Any) -> bytes:
        """See `Conversation.session`."""
        if self._secure is None:
            return super().session()
        proof = signed(self.shown.key, proof_wanted(self._asked))
        right = {
            "nonce": os.urandom(32), "certificate": der(self.shown.certificate), "signature": proof,
            "algorithm": SIGNATURE, "endpoints": wire.array(self.endpoints()),
        }  # fmt: skip
        return plain_session(**(right | wrong))

    def opened(self, reader: Reader) -> None:
        """See `Conversation.opened`."""
        if self._secure is None:
            return
        reader.take("<III")
        theirs = reader.text()
        self.nonce = os.urandom(32) if self.shown.nonce is None else self.shown.nonce
        self._secure.take_keys(theirs, self.nonce, self.channel, TOKEN)

    def _taken(self, data: bytes) -> Question | None:
        if data[:3] == b"OPN" and self._secure is None:
            self._secure = self._secured(data)
        if self._secure is None or data[:3] not in (b"OPN", b"MSG"):
            return super()._taken(data)
        self._asked, request = self._secure.open(data)
        return self._question(self._asked, request)

    def _secured(self, data: bytes) -> Sealing | None:
        reader = Reader(data, 12)
        policy, sender = reader.text(), reader.text()
        if policy.decode() != POLICY:
            return None
        return Sealing(sender, (self.shown.certificate, self.shown.key), self.shown.channel)


class SecuredLiar(OpcuaLiar):
    """See `OpcuaLiar`; its certificates are good once it behaves."""

    def __init__(self, lie: Lie[Question], shown: Certificates, folder: Path) -> None:
        super().__init__(self._begin, lie)
        self._shown = shown
        self.more = {
            "security": {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}, "certificates": str(folder / "pki"),
        }  # fmt: skip

    def behave(self) -> None:
        """See `Peer.behave`."""
        self._shown = good()
        super().behave()

    def _begin(self, reader: asyncio.StreamReader) -> AsyncIterator[Question]:
        uris = ["http://opcfoundation.org/UA/", OWN_URI, OTHER_URI, URI]
        return SecuredConversation(uris, self._shown).listen(reader)


def _started(
    lie: Lie[Question], shown: Callable[[], Certificates]
) -> Callable[[Path], AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[SecuredLiar]:
        made = await asyncio.to_thread(shown)
        await asyncio.to_thread(fill, folder / "pki", made)
        peer = SecuredLiar(lie, made, folder)
        async with peer.serve():
            yield peer

    return start


def _b(
    name: str, text: str, *expected: Outcome, shown: Callable[[], Certificates] = good,
    lie: Lie[Question] | None = None, is_worst: bool = False, **settings: Any,
) -> Behaviour:  # fmt: skip
    start = _started(lie or liar.answer(honest), shown)
    return Behaviour(id=name, text=text, start=start, expected=expected, settings=settings, is_worst=is_worst)


def _created(**wrong: Any) -> Lie[Question]:
    return at("CreateSession", lambda q: q.frame(q.body(q.conversation.session(**wrong))))


def _endpoints(*offers: Callable[[Certificates], bytes]) -> Lie[Question]:
    return at("GetEndpoints", lambda q: q.frame(q.body(wire.array([offer(good()) for offer in offers]))))


def _tampered(at_: int) -> Lie[Question]:
    def tamper(question: Question) -> bytes:
        sealed = bytearray(question.answer)
        sealed[at_] ^= 1
        return bytes(sealed)

    return at("Read", tamper)


SECURED = (
    _b("good", "has nothing wrong", GOOD),
    _b("expired", "its certificate expired", REFUSED, shown=with_(days=(-10, -1)), is_worst=True),
    _b("not-yet-valid", "its certificate is not valid yet", REFUSED, shown=with_(days=(1, 10))),
    _b("wrong-host", "its certificate is for another host", REFUSED, shown=with_(hosts=("192.0.2.7",)),
       host_check="always"),
    _b("wrong-host-issued", "its issued certificate is for another host", REFUSED,
       shown=issued(is_trusted=True, hosts=("192.0.2.7",))),
    _b("wrong-application", "its certificate is for another application", REFUSED,
       shown=with_(uri="urn:somebody:else")),
    _b("no-application", "its certificate is for no application", REFUSED, shown=with_(uri=None)),
    _b("unknown", "its certificate is signed by itself and nobody knows it", REFUSED, shown=unknown),
    _b("unknown-issuer", "its certificate is issued by nobody known", REFUSED, shown=issued(is_trusted=False)),
    _b("revoked", "its certificate was revoked", REFUSED, shown=issued(is_trusted=True, is_revoked=True)),
    _b("weak-key", "its key is short", REFUSED, shown=weak),
    _b("not-for-servers", "its certificate is no server's", REFUSED, shown=with_(purposes=())),
    _b("garbage", "its certificate is none", REFUSED, shown=lambda: replace(good(), announced=os.urandom(900))),
    _b("no-certificate", "it shows no certificate", REFUSED, shown=lambda: replace(good(), announced=b"")),
    _b("long-chain", "it shows forty certificates", REFUSED | GOOD,
       shown=lambda: replace(good(), announced=der(good().certificate) * 40)),
    _b("swapped", "its channel shows another certificate than its endpoints", REFUSED, shown=swapped, is_worst=True),
    _b("signed-by-another", "its channel is signed with another key", BROKEN, shown=signed_by_another),
    _b("session-of-another", "its session shows another certificate", REFUSED,
       lie=_created(certificate=b"0" * 900)),
    _b("session-without", "its session shows no certificate", REFUSED, lie=_created(certificate=None)),
    _b("proof-of-something-else", "it signs the wrong data", BROKEN,
       lie=at("CreateSession", lambda q: q.frame(q.body(q.conversation.session(
           signature=signed(good().key, b"something else")))))),
    _b("proof-empty", "it signs nothing", BROKEN, lie=_created(signature=b"")),
    _b("proof-missing", "it has no signature", BROKEN | REFUSED, lie=_created(signature=None, algorithm=None)),
    _b("nonce-missing", "its session has no nonce", BROKEN, lie=_created(nonce=b"")),
    _b("nonce-short", "the nonce of its session is short", BROKEN, lie=_created(nonce=bytes(31))),
    _b("nonce-long", "the nonce of its session is long", GOOD | BROKEN, lie=_created(nonce=bytes(5000))),
    _b("channel-nonce-missing", "its channel has no nonce", BROKEN, shown=lambda: replace(good(), nonce=b"")),
    _b("channel-nonce-short", "the nonce of its channel is short", BROKEN, shown=lambda: replace(good(), nonce=b"\1")),
    _b("offers-none", "offers no security", REFUSED, lie=_endpoints(lambda p: p.endpoint(policy=wire.NO_SECURITY,
       mode=1))),
    _b("offers-less", "offers signatures only", REFUSED, lie=_endpoints(lambda p: p.endpoint(mode=2))),
    _b("offers-nothing", "offers nothing", REFUSED, lie=_endpoints()),
    _b("offers-otherwise", "offers another security in the session than before it", REFUSED,
       lie=at("CreateSession", lambda q: q.frame(q.body(q.conversation.session(
           endpoints=wire.array([good().endpoint(policy=wire.NO_SECURITY, mode=1)])))))),
    _b("opens-in-clear", "opens the channel without security", BROKEN | REFUSED,
       lie=at("OpenSecureChannel", lambda q: q.frame(is_plain=True)), is_worst=True),
    _b("answers-in-clear", "answers without security", BROKEN, lie=at("Read", lambda q: q.frame(is_plain=True))),
    _b("tampered", "changes one bit of an answer", BROKEN, lie=_tampered(60)),
    _b("tampered-signature", "changes one bit of a signature", BROKEN, lie=_tampered(-1)),
    _b("replayed", "sends an answer twice", GOOD | BROKEN, lie=at("Read", lambda q: q.answer * 2)),
    _b("silent-OpenSecureChannel", "says nothing to OpenSecureChannel", GONE,
       lie=act("OpenSecureChannel", liar.say_nothing)),
    _b("silent-ActivateSession", "says nothing to ActivateSession", GONE, lie=act("ActivateSession", liar.say_nothing)),
)  # fmt: skip
