"""The session that s3fs makes its clients with: small bodies are sent without asking first.

botocore lets each PUT wait for the server's "100 Continue" before it sends the body: a round trip more, which
saves traffic where a large body would be refused. Other clients of AWS ask from 1 MB on
(https://github.com/aws/aws-sdk-java-v2/pull/6864: up to 30 % of a small upload's time).
"""

from typing import Any

from aiobotocore.session import AioSession
from botocore.utils import determine_content_length

ASKED_BYTES = 2**20


def give_session(fs: Any) -> None:
    """Give a file system of s3fs that has no session yet one of its own settings."""
    if getattr(fs, "session", fs) is None:
        fs.session = AioSession(**fs.kwargs)
        fs.session.register("before-call.s3", _send_at_once)


def _send_at_once(params: dict[str, Any], **_: object) -> None:
    if "Expect" in params["headers"] and (determine_content_length(params["body"]) or 0) < ASKED_BYTES:
        del params["headers"]["Expect"]
