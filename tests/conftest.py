"""House rules for every test: both event loops, no blocking call in a loop, nothing left running.

An async test runs once on asyncio and once on uvloop. A blocking call made by `edge` or `drivers` inside the loop
raises in the test that made it, and fails that test even when the code under test swallows the error. What a test
opens it closes: a leaked file or socket is an error (warnings are errors), and so is a thread still alive at the end of
a module. A test that neither its timeout nor the end of its loop can end ends the process, with the stacks of all
threads: the others then run in a new one, and a run always comes to its end. What a command did to the log is undone.

Hypothesis runs the same examples every time; HYPOTHESIS_PROFILE=explore looks for new ones and prints how to repeat
a failure.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import hypothesis
import pytest
import structlog
import uvloop
from _pytest.faulthandler import fault_handler_stderr_fd_key
from blockbuster import BlockBuster, BlockBusterFunction
from blockbuster import blockbuster as blockbuster_module

from tests.support.requirements import pytest_pycollect_makeitem  # noqa: F401 - a hook

hypothesis.settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True, max_examples=1_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

_THREAD_ENDS_WITHIN_S = 2

_blocking_calls: list[str] = []

_configure_log = structlog.configure
# A logger that keeps how it was first used would write every later line to the stream of that test.
structlog.configure = lambda **settings: _configure_log(**settings | {"cache_logger_on_first_use": False})


class _BlockingCall(blockbuster_module.BlockingError):
    """Remembered, so that an `except Exception` in the code under test does not hide it."""

    def __init__(self, func: str) -> None:
        super().__init__(func)
        _blocking_calls.append(func)


def _guard() -> BlockBuster:
    """Watches calls made on behalf of our code; what a test does for itself in the loop is its own affair."""
    blockbuster_module.BlockingError = _BlockingCall  # type: ignore[misc]
    guard = BlockBuster(["edge", "drivers"])
    for name in ("os.fsync", "os.fdatasync", "os.pread", "os.pwrite"):
        guard.functions[name] = BlockBusterFunction(None, name, scanned_modules=["edge", "drivers"])
    return guard


_GUARD = _guard()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": _new_uvloop}


def _new_uvloop() -> asyncio.AbstractEventLoop:
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(_stop_at_timeout)
    return loop


def _stop_at_timeout(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the handler of a signal raises, such as the timeout of a test, uvloop reports and goes on."""
    loop.default_exception_handler(context)
    if isinstance(context.get("exception"), pytest.fail.Exception):
        loop.stop()


def _end_the_process_unless_done(item: pytest.Item) -> None:
    """Twice the timeout of a test: once for what the timeout should have ended, once for cleaning up after it."""
    marker = item.get_closest_marker("timeout")
    seconds = marker.args[0] if marker else float(item.config.getini("timeout"))
    faulthandler.dump_traceback_later(2 * seconds, exit=True, file=item.config.stash[fault_handler_stderr_fd_key])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _end_the_process_unless_done(item)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        structlog.reset_defaults()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    _end_the_process_unless_done(item)  # again, because pytest calls it off when a test has failed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("asyncio") is None:
        return (yield)
    _blocking_calls.clear()
    _GUARD.activate()
    try:
        result = yield
    finally:
        _GUARD.deactivate()
    if _blocking_calls:
        pytest.fail(f"blocked the event loop: {', '.join(_blocking_calls)}")
    return result


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(_THREAD_ENDS_WITHIN_S)
        assert not thread.is_alive(), f"thread {thread.name} was left running"
