"""Why a server refuses a session, as sentences with a remedy.

Importing this module imports asyncua: only what connects does.
"""

from __future__ import annotations

from asyncua import ua

from drivers.opcua.certificates import WITHOUT_KEY_CERT_SIGN, in_pairs, lacks_key_cert_sign, sha1_fingerprint
from drivers.opcua.credentials import Credentials
from drivers.opcua.settings import OpcuaDevice
from edge.errors import ErrorCode

_code = ua.StatusCodes
ABOUT_USER = frozenset({_code.BadUserAccessDenied, _code.BadIdentityTokenInvalid, _code.BadIdentityTokenRejected,
                        _code.BadUserSignatureInvalid})  # fmt: skip
ABOUT_CERTIFICATE = frozenset({
    _code.BadSecurityChecksFailed, _code.BadCertificateInvalid, _code.BadCertificateTimeInvalid,
    _code.BadCertificateIssuerTimeInvalid, _code.BadCertificateHostNameInvalid, _code.BadCertificateUriInvalid,
    _code.BadCertificateUseNotAllowed, _code.BadCertificateIssuerUseNotAllowed, _code.BadCertificateUntrusted,
    _code.BadCertificateRevocationUnknown, _code.BadCertificateIssuerRevocationUnknown, _code.BadCertificateRevoked,
    _code.BadCertificateIssuerRevoked, _code.BadCertificateChainIncomplete, _code.BadCertificatePolicyCheckFailed,
    _code.BadNoValidCertificates, _code.BadApplicationSignatureInvalid, _code.BadNonceInvalid,
})  # fmt: skip
_ABOUT_OURS = {
    _code.BadCertificateUseNotAllowed: "its key may not be used so; have it made with all that `create` asks for",
    _code.BadCertificateTimeInvalid: "it is not valid by the server's clock; compare the clocks with its dates",
    _code.BadCertificateUriInvalid: "the server wants another application URI in it; have it made anew",
    _code.BadCertificateHostNameInvalid: "the server knows this machine by another name; make one with --host NAME",
    _code.BadCertificateRevoked: "its authority has revoked it; have a new one made",
    _code.BadCertificateChainIncomplete: "the server does not know its authority; install that on the server",
    _code.BadCertificatePolicyCheckFailed: "the server wants another key or signature; make one with --bits",
}
_REMEDIES = {
    _code.BadTooManySessions: "has no session left: close those of other clients there, wait until those that were "
    "left behind time out, or raise its limit",
    _code.BadSecurityPolicyRejected: "does not take the security that it offers: enable this policy and mode on the "
    "server, or choose others in `security`",
    _code.BadSecurityModeRejected: "does not take the security that it offers: enable this policy and mode on the "
    "server, or choose others in `security`",
}


def code_of_refusal(status: int) -> ErrorCode:
    """The kind of failure that a status code of a refusal is."""
    if status == _code.BadTooManySessions:
        return ErrorCode.DEVICE_OCCUPIED
    return ErrorCode.DEVICE_NOT_TRUSTED if status in ABOUT_CERTIFICATE else ErrorCode.DEVICE_LOGIN


def why_refused(
    name: str, code: int, code_name: str, device: OpcuaDevice, credentials: Credentials, note: str
) -> str | None:
    """A sentence on why the server refuses us, with a remedy; None where the code is not about that."""
    after = f"; {note}" if note else ""
    if code in ABOUT_USER:
        user = device.user
        who = "anonymous users" if user is None else f"the user {user.name}" if user.name else "the user's certificate"
        return f"{name} refuses {who} ({code_name}): check `user`, and the rights it has on the server{after}"
    if code in _REMEDIES:
        return f"{name} {_REMEDIES[code]} ({code_name}){after}"
    if credentials.own is not None and code in _ABOUT_OURS:
        about = f"{_ABOUT_OURS[code]}: tidegate keys opcua show {device.certificates}"
        if code == _code.BadCertificateUseNotAllowed and lacks_key_cert_sign(credentials.own.certificate):
            about = f"{WITHOUT_KEY_CERT_SIGN} {device.certificates}, and trust it on the server"
        return f"{name} refuses our certificate ({code_name}): {about}{after}"
    if code in ABOUT_CERTIFICATE and credentials.own is not None:
        print_ = in_pairs(sha1_fingerprint(credentials.own.certificate))
        return (
            f"{name} refuses our certificate ({code_name}): trust it on the server, among whose rejected ones it is "
            f"with the thumbprint {print_} (SHA-1), application {credentials.own.uri}{after}"
        )
    return None
