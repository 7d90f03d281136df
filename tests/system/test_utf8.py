"""Names of files in processes whose locale has another charset: ASCII, which every system has."""

import os
import subprocess
import sys

import pytest

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def python(code: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"from batchseg.system import utf8; {code}", *arguments]
    environment = {**os.environ, **ASCII, **changes}
    return subprocess.run(command, env=environment, check=False, capture_output=True, encoding="utf-8")


def test_a_program_is_started_again_with_its_arguments_and_so_is_what_it_starts() -> None:
    code = (
        "utf8.restart_in_utf8(); import os, sys; "
        "print(utf8.decodes_utf8(), os.environ['PYTHONUTF8'], ascii(sys.argv[1:]), utf8.terminal_encoding())"
    )
    done = python(code, "影像.yaml", "a b")
    assert done.stdout.strip() == r"True 1 ['\u5f71\u50cf.yaml', 'a b'] None", done.stderr


@pytest.mark.parametrize(
    ("check", "error"), [("check_utf8", "ConfigError"), ("check_worker", "StoppedError")]
)
def test_who_cannot_be_started_again_is_refused_with_the_locales_name(check: str, error: str) -> None:
    said = python(f"utf8.{check}()").stderr.splitlines()[-1]
    assert error in said
    assert "takes names of files for ascii (LC_ALL=C, PYTHONUTF8=0)" in said
    assert python(f"utf8.{check}()", PYTHONUTF8="1").returncode == 0


def test_a_terminal_of_another_charset_gets_it_unless_python_is_told_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from batchseg.system import utf8

    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    monkeypatch.setattr(utf8.locale, "getencoding", lambda: "GBK")
    monkeypatch.setattr(sys, "_xoptions", {})
    assert utf8.terminal_encoding() is None
    monkeypatch.setattr(sys, "_xoptions", {"utf8": True})
    assert utf8.terminal_encoding() == "gbk"
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    assert utf8.terminal_encoding() is None
