"""The command line: the only module that prints and exits.

Commands import what they need when they are called: a second run on an output is refused before the
second that the libraries take.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import batchseg
from batchseg.api.own_process import lent
from batchseg.api.stopping import end_children_at_interrupt, keep_exit_code
from batchseg.cli.model import add_model_commands
from batchseg.cli.outputs import add_output_commands
from batchseg.cli.photo import add_photo_commands
from batchseg.cli.run import EXIT_CODES, add_run_commands
from batchseg.cli.terminal import Action, Answer, Parser, Streams
from batchseg.errors import EXIT_DEFECT, BatchsegError, ConfigError, StoppedError
from batchseg.system.disks import disk_failures
from batchseg.system.escape import shown, shown_traceback
from batchseg.system.utf8 import restart_in_utf8


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script: parse, run, print, exit."""
    if argv is None:
        restart_in_utf8()
    end_children_at_interrupt()
    streams = Streams()
    arguments = _parser().parse_args(argv)
    try:
        _check_current_folder()
        with disk_failures("stopped"), lent():  # the process is batchseg's: the face may change it
            answer = _do(arguments, streams)
        streams.give_back()
        for line in answer.lines:
            _say(line, sys.stdout)
        code = answer.code
    except BatchsegError as e:
        # Under --quiet too: cron sends on what is printed, and looks at no exit code.
        streams.give_back()
        for number, line in enumerate(e.lines):
            _say(line if number else f"batchseg: {line}", sys.stderr, name_variables=True)
        code = e.exit_code
    except Exception as e:  # noqa: BLE001  shown without credentials, which Python would not leave out
        streams.give_back()  # a traceback must reach the user, not the chatter's file
        _print(shown_traceback(e), sys.stderr)
        code = EXIT_DEFECT
    except KeyboardInterrupt:  # of a command that is no run: that one hears of it, and records what it has
        streams.give_back()
        unchanged = "; nothing was changed" if getattr(arguments, "only_looks", False) else ""
        _say(f"batchseg: interrupted{unchanged}", sys.stderr)
        code = StoppedError.exit_code
    except BaseException:
        streams.give_back()
        raise
    _give_up_what_cannot_be_printed()
    from batchseg.system.threads import Helper  # here: it imports more than a refused run needs

    if Helper.given_up:  # Python would wait for the threads of pools that hang
        os._exit(code)
    keep_exit_code()
    sys.exit(code)


def _give_up_what_cannot_be_printed() -> None:
    """Python tries once more at its end, and would exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, sys.stdout.fileno())


def _do(arguments: argparse.Namespace, streams: Streams) -> Answer:
    action: Action = arguments.action
    return action(arguments, streams, lambda line: _say(line, streams.err))


def _check_current_folder() -> None:
    """Processes that are started need one."""
    try:
        Path.cwd()
    except FileNotFoundError as e:
        msg = "the current folder was deleted; change to one that exists"
        raise ConfigError(msg) from e


def _say(line: str, stream: TextIO, *, name_variables: bool = False) -> None:
    _print(shown(line, name_variables=name_variables), stream)


def _print(text: str, stream: TextIO) -> None:
    """Print; a full disk or a reader that left (`| head`) does not change how a run ended."""
    with contextlib.suppress(OSError):
        print(text, file=stream, flush=True)
    if stream is sys.stdout:
        with contextlib.suppress(OSError):
            stream.flush()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="batchseg",
        description="Segment archives of rasters with a PaddleSeg model: tiled, distributed, resumable.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"batchseg {batchseg.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    job, output = _job_argument(), _output_argument()
    add_run_commands(commands, job)
    add_output_commands(commands, output)
    add_photo_commands(commands, output)
    add_model_commands(commands, job)
    return parser


def _job_argument() -> argparse.ArgumentParser:
    job = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    job.add_argument("job", type=Path, metavar="JOB.yaml", help="the job file")
    job.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of the job file, such as halo=32 or scale.divide=10000; may be repeated",
    )
    return job


def _output_argument() -> argparse.ArgumentParser:
    output = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    output.add_argument("output", metavar="OUTPUT", help="the job's output, or the job file")
    return output
