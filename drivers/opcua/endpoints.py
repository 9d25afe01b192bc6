"""What a server offers (OPC 10000-4 5.5.4), and which of it the engineer asked for: that exactly, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from drivers.opcua.settings import OpcuaDevice
from edge.errors import DeviceRefused

POLICIES = "http://opcfoundation.org/UA/SecurityPolicy#"
_BINARY = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
_MODES = {1: "None", 2: "Sign", 3: "SignAndEncrypt"}
_USERS = {0: "anonymous", 1: "user name", 2: "certificate", 3: "issued token"}
_ENDPOINTS = 200


@dataclass(frozen=True, slots=True)
class Token:
    """One way to say who we are; `policy` is empty where it is the channel's."""

    kind: str
    policy: str
    id: str


@dataclass(frozen=True, slots=True)
class Offer:
    """One endpoint."""

    url: str
    policy: str
    mode: str
    tokens: tuple[Token, ...]
    certificate: bytes
    application: str
    product: str
    application_uri: str

    def __str__(self) -> str:
        users = ", ".join(dict.fromkeys(token.kind for token in self.tokens)) or "nobody"
        security = "none" if self.mode == "None" else f"{self.policy} {self.mode}"
        return f"{security} for {users}"


def offers(descriptions: Sequence[Any] | None) -> list[Offer]:
    """The endpoints that can be spoken to, as plain values."""
    return [
        Offer(
            url=_text(one.EndpointUrl),
            policy=_policy(one.SecurityPolicyUri),
            mode=_MODES.get(int(one.SecurityMode), "unknown"),
            tokens=tuple(
                Token(_USERS.get(int(token.TokenType), "unknown"), _policy(token.SecurityPolicyUri), token.PolicyId)
                for token in one.UserIdentityTokens or ()
            ),
            certificate=bytes(one.ServerCertificate or b""),
            application=_text(one.Server.ApplicationName.Text if one.Server.ApplicationName else ""),
            product=_text(one.Server.ProductUri),
            application_uri=_text(one.Server.ApplicationUri),
        )
        for one in (descriptions or ())[:_ENDPOINTS]
        if one.TransportProfileUri in (None, "", _BINARY) and _text(one.EndpointUrl).startswith("opc.tcp")
    ]


def wanted(device: OpcuaDevice) -> tuple[str, str, str]:
    """Policy, mode and kind of user that the configuration asks for."""
    policy, mode = ("None", "None") if device.security == "none" else (device.security.policy, device.security.mode)
    if device.user is None:
        return policy, mode, "anonymous"
    return policy, mode, "user name" if device.user.name is not None else "certificate"


def choose(name: str, found: Iterable[Offer], device: OpcuaDevice) -> Offer:
    """The endpoint that is wanted. Raises DeviceRefused with what is offered instead."""
    found = list(found)
    policy, mode, user = wanted(device)
    fitting = [offer for offer in found if (offer.policy, offer.mode) == (policy, mode)]
    for offer in sorted(fitting, key=lambda offer: host_of(offer.url) != device.host):
        if any(token.kind == user for token in offer.tokens):
            return offer
    security = "no security" if policy == "None" else f"{policy} {mode}"
    offered = "; ".join(dict.fromkeys(map(str, found))) or "nothing"
    raise DeviceRefused(
        f"{name} does not offer {security} for {user}; it offers {offered}: change `security` "
        "and `user`, or the server's settings"
    )


def token_for(offer: Offer, kind: str) -> Token:
    """How the chosen endpoint wants to be told who we are: the best protected way."""
    fitting = [token for token in offer.tokens if token.kind == kind]
    return max(fitting, key=lambda token: token.policy not in ("", "None"))


def host_note(offer: Offer, device: OpcuaDevice) -> str:
    """A sentence where the server calls itself something else than it is called in the configuration; else empty."""
    if not offer.url or host_of(offer.url) == device.host.lower():
        return ""
    return (
        f"the server calls its endpoint {offer.url[:200]}; we go on connecting to {device.url}, as configured "
        "(behind address translation that is as it should be)"
    )


def host_of(url: str) -> str:
    """The host in an endpoint's URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _policy(uri: str | None) -> str:
    return _text(uri).removeprefix(POLICIES)


def _text(value: object) -> str:
    return "".join(letter for letter in value[:500] if letter.isprintable()) if isinstance(value, str) else ""


def find_application(name: str, descriptions: Sequence[Any] | None, offer: Offer) -> None:
    """Compare what the session's answer says with what was offered before (OPC 10000-4 5.7.2.2).

    Raises:
        DeviceRefused: somebody changed the offer on its way.
    """
    now = offers(descriptions)
    same = (offer.policy, offer.mode, offer.application_uri)
    # Not the certificate: servers are told to leave it out here, and it is checked by itself.
    if now and not any((one.policy, one.mode, one.application_uri) == same for one in now):
        raise DeviceRefused(
            f"{name} offers another security in its session than before it: something between us and the server "
            f"may be changing messages; it was {offer}, it is {'; '.join(dict.fromkeys(map(str, now)))}"
        )
