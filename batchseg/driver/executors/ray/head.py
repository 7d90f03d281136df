"""The head of a cluster that a job names: whether it answers, and whom it lets in.

`ray.init` waits for minutes where nobody answers, and says "Failed to connect" where a token is missing.
Given an address it looks for none unless RAY_AUTH_MODE says so, while a head that finds one asks for it.
"""

import os
import socket
import time
from concurrent.futures import wait
from functools import partial

from ray._private import services
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._raylet import AuthenticationTokenLoader, GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError

from batchseg.driver.executors.ray.failures import first_line
from batchseg.errors import ConfigError, StoppedError
from batchseg.system.threads import Helper

ANSWER_SECONDS = 30.0
"""For a first answer; Ray's own client gives up after 40 s."""

KNOCK_SECONDS, PAUSE_SECONDS = 3.0, 0.5

_WHERE = "RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token"
"""Where Ray's tools look for a token, in their order."""


def meet(address: str) -> None:
    """Have the head of a cluster answer; from then on this process has the token that it asks for.

    Args:
        address: host:port, or `auto`.

    Raises:
        ConfigError: the address is none, or the head asks for a token that this user has not.
        StoppedError: nobody answers there.
    """
    until = time.monotonic() + ANSWER_SECONDS
    place = _place_of(address)
    _knock(address, place, until)
    if (mode := _mode()) == "token" and not _has_token():
        raise ConfigError(f"RAY_AUTH_MODE is token, and there is none in {_WHERE}")  # noqa: EM102
    try:
        _ask(address, place, until)
    except AuthenticationError as e:
        if mode or not _has_token():
            raise _refused(address, mode) from e
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        try:
            _ask(address, place, until)
        except AuthenticationError as e:
            raise _refused(address, "token") from e


def _place_of(address: str) -> str:
    """host:port. Raises ConfigError where there is none."""
    msg = f"ray_address: {address}: expected the host and port of a cluster's head, such as 10.0.0.1:6379"
    try:
        place: str | None = None if "://" in address else services.canonicalize_bootstrap_address(address)
    except Exception as e:  # Ray raises ValueError, OSError and others
        raise ConfigError(f"{msg} ({first_line(e)})") from e  # noqa: EM102
    if place is None and address == "auto":
        msg = "ray_address: auto: no Ray cluster runs on this host; start one, or leave ray_address out"
    if place is None:
        raise ConfigError(msg)
    return place


def _knock(address: str, place: str, until: float) -> None:
    """Wait until somebody takes connections there. Raises StoppedError."""
    host, _, port = place.rpartition(":")
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
        except OSError as e:
            if time.monotonic() + PAUSE_SECONDS > until:
                raise _nobody(address, place, str(e.strerror or e)) from e
        else:
            return
        time.sleep(PAUSE_SECONDS)


def _ask(address: str, place: str, until: float) -> None:
    """Raises AuthenticationError as Ray words it; StoppedError where no answer comes in time."""
    helper = Helper()
    answer = helper.start(partial(_answer, place))
    if not wait([answer], timeout=max(KNOCK_SECONDS, until - time.monotonic())).done:
        helper.give_up()
        raise _nobody(address, place, "it takes connections and says nothing")
    helper.close()
    try:
        answer.result()
    except AuthenticationError:
        raise
    except Exception as e:  # RpcError, RuntimeError
        raise _nobody(address, place, first_line(e)) from e


def _answer(place: str) -> None:
    GcsClient(address=place).internal_kv_keys(b"", None, timeout=ANSWER_SECONDS)


def _mode() -> str:
    return os.environ.get("RAY_AUTH_MODE", "").lower()


def _has_token() -> bool:
    return bool(AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))


def _nobody(address: str, place: str, reason: str) -> StoppedError:
    if place != address:  # Ray takes this host's own address for 127.0.0.1
        reason = f"{place}: {reason}"
    msg = f"no Ray head answers at {address} ({reason}), asked for {ANSWER_SECONDS:.0f} s"
    return StoppedError(msg + "; start the cluster, correct ray_address, or leave it out")


def _refused(address: str, mode: str) -> ConfigError:
    found = {"token": "another one than is", "": "and there is none"}
    what = found.get(mode, f"and RAY_AUTH_MODE is {mode}: unset it, and have the token")
    msg = f"the Ray cluster at {address} asks for a token, {what} in {_WHERE}"
    return ConfigError(msg, "On the head's host `ray get-auth-token` prints it.")
