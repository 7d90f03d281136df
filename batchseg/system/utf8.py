"""Names of files are bytes, and UTF-8 in every result: Python must decode them so, whatever the locale says.

GDAL takes names in UTF-8. Where Python decodes them by another charset, files are not found, and sources have
other ids than under another locale.
"""

import codecs
import locale
import os
import socket
import sys

from batchseg.errors import ConfigError, StoppedError

DECIDING = ("LC_ALL", "LC_CTYPE", "LANG")
"""Variables of the environment by which the system chooses a charset; the first that is set decides."""


def decodes_utf8() -> bool:
    """Whether this Python takes names of files for UTF-8."""
    return sys.getfilesystemencoding() == "utf-8"


def restart_in_utf8() -> None:
    """Start the program again with Python's UTF-8 mode, for it and all that it starts, where that is not on.

    It returns where it is on, or where the program cannot be started again.
    """
    if decodes_utf8() or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    try:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  this program
    except OSError as e:
        msg = f"cannot start {sys.executable} in UTF-8 mode: {e.strerror}; set PYTHONUTF8=1"
        raise ConfigError(msg) from e


def terminal_encoding() -> str | None:
    """The charset of the user's terminal, where this program was restarted and it is not UTF-8."""
    if "utf8" not in sys._xoptions or "PYTHONIOENCODING" in os.environ:
        return None
    try:
        name = codecs.lookup(locale.getencoding()).name
    except LookupError:
        return None
    return None if name in ("utf-8", "ascii") else name


def check_utf8() -> None:
    """Raises ConfigError where this process decodes names in another way: it is the user's own."""
    if not decodes_utf8():
        msg = f"{_found()} Start Python with PYTHONUTF8=1 in its environment, or under a UTF-8 locale"
        raise ConfigError(msg)


def check_worker() -> None:
    """Raises StoppedError where this process of a cluster decodes names in another way."""
    if not decodes_utf8():
        msg = (
            f"on {socket.gethostname()}, Ray's workers find no such files: {_found()} Start Ray there with "
            f"PYTHONUTF8=1 in its environment, or under a UTF-8 locale, and run again"
        )
        raise StoppedError(msg)


def _found() -> str:
    name = next((name for name in DECIDING if os.environ.get(name)), None)
    by = f"{name}={os.environ[name]}" if name else "no locale is set"
    said = f"{by}, PYTHONUTF8={os.environ['PYTHONUTF8']}" if os.environ.get("PYTHONUTF8") else by
    return f"Python takes names of files for {sys.getfilesystemencoding()} ({said}), and results have UTF-8."
