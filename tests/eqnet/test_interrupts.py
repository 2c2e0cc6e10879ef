"""Ctrl-C waits for the end, and no longer."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from eqnet.interrupts import deferred


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_is_raised_at_the_end() -> None:
    done = []

    @deferred()
    def work() -> None:
        press()
        press()
        done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the rest"]


def test_without_it_nothing_is_raised_and_afterwards_it_works_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with deferred():
        pass
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        press()


def test_an_exception_inside_goes_first() -> None:
    @deferred()
    def work() -> None:
        press()
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        work()


def test_another_thread_runs_as_it_is() -> None:
    ran = []

    def work() -> None:
        with deferred():
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran == [True]
