from __future__ import annotations

import asyncio
import gc
import itertools
import types
from collections.abc import Callable, Coroutine, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from drivers.opcua import certificates, credentials, keys, session_setup
from drivers.opcua import connection as connection_module
from drivers.opcua.certificates import der, key_pem
from drivers.opcua.session_setup import open_session
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.trust import TrustList
from edge.clock import SystemClock
from edge.errors import DeviceRefused, DeviceUnreachable

DeviceMaker = Callable[..., OpcuaDevice]
NOW = datetime.now(UTC)
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
MODES = ("Sign", "SignAndEncrypt")


async def state(device: OpcuaDevice) -> int:
    """A value that only a session can read."""
    async with open_session(device, SystemClock()) as connection:
        (value,) = await connection.read([2259])
    return int(value)


@types.coroutine
def cut(coroutine: Coroutine[Any, Any, Any], at: int) -> Generator[Any, None, int]:
    """Run a coroutine, and cancel it where it awaits for the `at`th time; how often it awaited where it ends."""
    error: BaseException | None = None
    number = -1
    while True:
        number += 1
        try:
            awaited = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration:
            return number
        task, error = asyncio.current_task(), None
        if number == at and task is not None:
            task.cancel()
        try:
            yield awaited
        except BaseException as raised:  # noqa: BLE001 - it goes on into the coroutine.
            error = raised


async def refusal(device: OpcuaDevice) -> str:
    with pytest.raises(DeviceRefused) as caught:
        await state(device)
    return str(caught.value)


@pytest.mark.parametrize(("policy", "mode"), list(itertools.product(POLICIES, MODES)))
async def test_every_policy_and_mode_opens_a_session(
    peer: Any, trust: TrustList, device: DeviceMaker, policy: str, mode: str
) -> None:
    await asyncio.to_thread(trust.trust, peer.be())

    assert await state(device(security={"policy": policy, "mode": mode})) == 0


async def test_no_security_is_used_where_it_is_written(peer: Any, device: DeviceMaker) -> None:
    peer.be(policies=["NoSecurity"])

    assert await state(device(security="none", certificates=None)) == 0


async def test_there_is_no_fall_back_to_what_was_not_asked_for(
    peer: Any, trust: TrustList, device: DeviceMaker
) -> None:
    await asyncio.to_thread(
        trust.trust, peer.be(policies=["NoSecurity", "Basic256Sha256_Sign"], users=["anonymous", "name"])
    )

    assert await refusal(device()) == (
        f"127.0.0.1:{peer.port} does not offer Basic256Sha256 SignAndEncrypt for anonymous; it offers none for "
        "anonymous, user name; Basic256Sha256 Sign for anonymous, user name: change `security` and `user`, or the "
        "server's settings"
    )


@pytest.mark.parametrize("security", ["none", *({"policy": "Basic256Sha256", "mode": mode} for mode in MODES)])
async def test_a_user_with_a_password_is_let_in_and_another_is_not(
    peer: Any, trust: TrustList, device: DeviceMaker, tmp_path: Path, security: Any
) -> None:
    """Without security the password is encrypted for the server whose certificate is trusted."""
    await asyncio.to_thread(trust.trust, peer.be(users=["name"]))
    (tmp_path / "password").write_text("a secret\n")
    (tmp_path / "wrong").write_text("a guess\n")
    user = {"name": "reader", "password": f"file:{tmp_path / 'password'}"}

    assert await state(device(security=security, user=user)) == 0
    assert "refuses the user reader (BadUserAccessDenied)" in await refusal(
        device(security=security, user={"name": "reader", "password": f"file:{tmp_path / 'wrong'}"})
    )


async def test_a_password_is_never_sent_in_clear(
    peer: Any, trust: TrustList, device: DeviceMaker, tmp_path: Path
) -> None:
    await asyncio.to_thread(trust.trust, peer.be(users=["name"], policies=["NoSecurity"]))
    (tmp_path / "password").write_text("a secret\n")
    user = {"name": "reader", "password": f"file:{tmp_path / 'password'}"}

    assert "takes the password unprotected only, and so it is not sent" in await refusal(
        device(security="none", user=user)
    )


async def test_a_password_is_not_sent_to_a_server_that_nobody_trusts(
    peer: Any, trust: TrustList, device: DeviceMaker, tmp_path: Path
) -> None:
    peer.be(users=["name"])
    (tmp_path / "password").write_text("a secret\n")
    user = {"name": "reader", "password": f"file:{tmp_path / 'password'}"}

    assert "is self-signed and not trusted" in await refusal(device(security="none", user=user))


@pytest.mark.parametrize("security", ["none", *({"policy": policy} for policy in POLICIES)])
async def test_a_user_with_a_certificate_is_let_in(
    peer: Any, trust: TrustList, device: DeviceMaker, maker: Any, tmp_path: Path, security: Any
) -> None:
    await asyncio.to_thread(trust.trust, peer.be(users=["certificate"]))
    (tmp_path / "user.der").write_bytes(der(maker.make(key=2, name="reader", uri=None)))
    (tmp_path / "user.pem").write_bytes(key_pem(maker.keys[2]))
    user = {"certificate": str(tmp_path / "user.der"), "key": f"file:{tmp_path / 'user.pem'}"}

    assert await state(device(security=security, user=user)) == 0


@pytest.mark.parametrize(
    ("security", "tokens", "used"),
    [
        ("none", ["Basic128Rsa15", "Basic256", "Basic256Sha256"], "Basic256Sha256"),
        ("none", ["None", "Basic256"], "Basic256"),
        ({"policy": "Basic256Sha256"}, ["Basic128Rsa15", "None"], "None"),
        ({"policy": "Basic256Sha256"}, ["Basic128Rsa15"], "Basic128Rsa15"),
        ("none", ["Basic128Rsa15", "None"], ""),
        ({"policy": "Basic256Sha256", "mode": "Sign"}, ["Basic128Rsa15"], ""),
    ],
)
async def test_a_password_goes_by_the_best_policy_of_the_list(
    peer: Any, trust: TrustList, device: DeviceMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: Any,
    tokens: list[str], used: str,
) -> None:  # fmt: skip
    """Whatever their order; Basic128Rsa15 only inside a channel that is encrypted already."""
    await asyncio.to_thread(trust.trust, peer.be(users=["name"], tokens=tokens))
    (tmp_path / "password").write_text("a secret\n")
    made = device(security=security, user={"name": "reader", "password": f"file:{tmp_path / 'password'}"})
    ids: list[str] = []
    monkeypatch.setattr(session_setup, "add_user_token", noting(ids))

    if used:
        assert await state(made) == 0
        assert ids[0].endswith(f" {used}")
    else:
        assert "and so it is not sent" in await refusal(made)


def noting(ids: list[str]) -> Callable[..., None]:
    """Sets the token as the driver does, and notes the id of its policy."""

    def add(name: str, asked: Any, *rest: Any) -> None:
        credentials.add_user_token(name, asked, *rest)
        ids.append(asked.UserIdentityToken.PolicyId)

    return add


async def test_a_user_signs_with_sha1_only_where_it_is_written(
    peer: Any, trust: TrustList, device: DeviceMaker, maker: Any, tmp_path: Path
) -> None:
    await asyncio.to_thread(trust.trust, peer.be(users=["certificate"], tokens=["Basic256"]))
    (tmp_path / "user.der").write_bytes(der(maker.make(key=2, name="reader", uri=None)))
    (tmp_path / "user.pem").write_bytes(key_pem(maker.keys[2]))
    user = {"certificate": str(tmp_path / "user.der"), "key": f"file:{tmp_path / 'user.pem'}"}

    assert "`user: {signature: sha1}`" in await refusal(device(user=user))
    assert await state(device(user={**user, "signature": "sha1"})) == 0


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("BadCertificateUseNotAllowed", "its key may not be used so"),
        ("BadCertificateTimeInvalid", "compare the clocks"),
        ("BadCertificateUntrusted", "trust it on the server"),
        ("BadTooManySessions", "has no session left"),
        ("BadSecurityPolicyRejected", "choose others in `security`"),
    ],
)
async def test_a_refusal_says_what_helps(
    peer: Any, trust: TrustList, device: DeviceMaker, code: str, says: str
) -> None:
    await asyncio.to_thread(trust.trust, peer.be(refuses=code))

    told = await refusal(device())

    assert code in told
    assert says in told
    assert ("trust it on the server" in told) is (code == "BadCertificateUntrusted")


async def test_a_certificate_made_before_is_told_apart(
    peer: Any, trust: TrustList, device: DeviceMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One without keyCertSign, as ours once were, at a server that requires it."""
    extensions = certificates._extensions
    monkeypatch.setattr(certificates, "_extensions", lambda who, is_self_signed: extensions(who, is_self_signed=False))
    older = TrustList(tmp_path / "older")
    await asyncio.to_thread(older.create, certificates.Application("t", "g", ("g",)), NOW, days=30, bits=2048)
    certificate = peer.be(refuses="BadCertificateUseNotAllowed")
    await asyncio.to_thread(older.trust, certificate)

    told = await refusal(device(certificates=str(older.directory)))
    shown = (await asyncio.to_thread(CliRunner().invoke, keys.command, ["show", str(older.directory)])).output

    remedy = "made without keyCertSign, which some servers (Ignition) require; move the folder own/ away"
    assert remedy in told
    assert remedy in shown
    assert f"tidegate keys opcua create {older.directory}" in told


async def test_the_keys_of_a_channel_are_renewed_in_time(
    peer: Any, trust: TrustList, device: DeviceMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(trust.trust, peer.be())
    monkeypatch.setattr(connection_module, "CHANNEL_LIFETIME_MS", 1000)  # Old keys run out on a busy machine too.

    async with open_session(device(), SystemClock()) as connection:
        first = connection.channel.token_id
        while connection.channel.token_id in (first, first + 1):
            assert await connection.read([2259]) == [0]
        assert not connection.is_lost


async def test_an_idle_session_is_kept_alive(peer: Any, device: DeviceMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.be(policies=["NoSecurity"])
    monkeypatch.setattr(connection_module, "SESSION_TIMEOUT_MS", 300)

    async with open_session(device(security="none", certificates=None), SystemClock()) as connection:
        sent = connection.channel.requests_sent
        async with asyncio.timeout(10):
            while connection.channel.requests_sent < sent + 4:  # noqa: ASYNC110 - nothing tells of it.
                await asyncio.sleep(0.01)

        assert await connection.read([2259]) == [0]


async def test_a_server_that_calls_itself_otherwise_is_explained(
    peer: Any, trust: TrustList, device: DeviceMaker
) -> None:
    """Normal behind address translation: the URL in the settings is used."""
    await asyncio.to_thread(trust.trust, peer.be(host="plc-7"))

    async with open_session(device(), SystemClock()) as connection:
        assert connection.host_note == (
            f"the server calls its endpoint opc.tcp://plc-7:{peer.port}/plant; we go on connecting to {peer.url}, as "
            "configured (behind address translation that is as it should be)"
        )


async def test_a_wrong_port_is_unreachable(device: DeviceMaker, unused_port: int) -> None:
    with pytest.raises(DeviceUnreachable, match=f"127.0.0.1:{unused_port} cannot be reached: Connection refused"):
        await state(device(url=f"opc.tcp://127.0.0.1:{unused_port}"))


async def test_a_cancelled_session_leaves_nothing_open(peer: Any, trust: TrustList, device: DeviceMaker) -> None:
    """At every await of opening, using and closing."""
    await asyncio.to_thread(trust.trust, peer.be())
    settings = device()
    before = asyncio.all_tasks()
    for at in itertools.count():
        task = asyncio.create_task(cut(state(settings), at))
        await asyncio.wait([task])
        assert asyncio.all_tasks() == before
        if not task.cancelled():
            break
    assert 12 < task.result() <= at, "a cancellation was swallowed"
    gc.collect()  # An object left open warns when it is collected, and warnings are errors.


@pytest.mark.parametrize("path", sorted(Path("drivers/opcua").glob("*.py")), ids=lambda path: path.stem)
def test_no_module_names_a_changing_service(path: Path) -> None:
    changing = ("WriteRequest", "CallRequest", "HistoryUpdate", "AddNodes", "DeleteNodes", "AddReferences")

    assert not any(word in path.read_text() for word in changing)
