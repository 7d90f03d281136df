"""What is said of heads that do not answer. A real one, and its token, is asked in test_cluster."""

import contextlib
import socket
import time

import pytest
from ray.exceptions import AuthenticationError

from batchseg.driver.executors.ray import head
from batchseg.driver.executors.ray.head import meet
from batchseg.errors import ConfigError, StoppedError


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(head, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(head, "KNOCK_SECONDS", 0.3)
    monkeypatch.setattr(head, "PAUSE_SECONDS", 0.1)
    for name in ("RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def open_port():
    """The address of a socket that takes connections and says nothing, on all of this host's addresses."""
    with socket.create_server(("", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def answers(monkeypatch):
    """What a head answers, one after the other: an error, or None."""
    given = []

    def answer(place):
        error = given.pop(0)
        if error is not None:
            raise error

    monkeypatch.setattr(head, "_answer", answer)
    return given


def test_where_nobody_listens_the_head_is_down(open_port):
    nowhere = open_port.rpartition(":")[0] + ":1"
    with pytest.raises(StoppedError, match=f"no Ray head answers at {nowhere} .*refused"):
        meet(nowhere)
    with pytest.raises(StoppedError, match=r"no Ray head answers at none\.invalid:6379"):
        meet("none.invalid:6379")


def test_a_head_that_says_nothing_is_not_waited_for(open_port, monkeypatch):
    monkeypatch.setattr(head, "_answer", lambda place: time.sleep(60))
    began = time.monotonic()
    with pytest.raises(StoppedError, match="takes connections and says nothing"):
        meet(open_port)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "http://127.0.0.1:8265", "nonsense", "local"])
def test_an_address_that_is_none_is_wrong(address):
    with pytest.raises(ConfigError, match=f"ray_address: {address}: expected the host and port"):
        meet(address)


def test_where_no_cluster_runs_none_is_found(monkeypatch):
    monkeypatch.setattr(head.services, "canonicalize_bootstrap_address", lambda address: None)
    with pytest.raises(ConfigError, match="no Ray cluster runs on this host"):
        meet("auto")


def test_a_head_that_answers_gets_no_token(open_port, answers):
    answers.append(None)
    meet(open_port)
    assert answers == []


def test_a_token_is_looked_for_where_the_head_asks_for_one(open_port, answers, monkeypatch):
    enabled = []
    monkeypatch.setattr(head, "_has_token", lambda: True)
    monkeypatch.setattr(
        head, "maybe_enable_token_auth_if_token_available", lambda **given: enabled.append(given)
    )
    answers += [AuthenticationError("missing"), None]
    meet(open_port)
    assert enabled == [{"warn_if_disabled": False}]
    answers += [AuthenticationError("missing"), AuthenticationError("wrong")]
    with pytest.raises(
        ConfigError, match=r"asks for a token, another one than is in RAY_AUTH_TOKEN, the file"
    ):
        meet(open_port)


@pytest.mark.parametrize(
    ("mode", "words"),
    [("", "and there is none in RAY_AUTH_TOKEN"), ("disabled", "RAY_AUTH_MODE is disabled: unset it")],
)
def test_a_token_that_is_not_there_is_named(open_port, answers, monkeypatch, mode, words):
    monkeypatch.setattr(head, "_has_token", lambda: False)
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    answers.append(AuthenticationError("missing"))
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(pytest.raises(ConfigError, match=words))
        meet(open_port)
    assert "ray get-auth-token" in caught.value.lines[1]


def test_ray_is_not_asked_in_token_mode_without_a_token(open_port, answers, monkeypatch):
    """It would end the process."""
    monkeypatch.setattr(head, "_has_token", lambda: False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ConfigError, match="RAY_AUTH_MODE is token, and there is none in"):
        meet(open_port)
