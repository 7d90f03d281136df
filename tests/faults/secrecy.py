"""Credentials in every place that a user may put them, and every byte searched that a run leaves or shows."""

import contextlib
import functools
import http.server
import io
import json
import os
import pickle
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fsspec
import pyarrow.parquet as pq

from faults.commands import Place, kill, run, said, start, wait_for
from faults.context import Context
from faults.record import Trial
from faults.sockets import is_open_to_others, listening
from faults.workload import Kind, Workload, make_workload, place

SECRET = "XyZZyPlughUnmistakable"
"""Part of every secret of a trial, by which it is found."""

COMMANDS: tuple[tuple[str, ...], ...] = (("status",), ("status", "--json"), ("verify",))
CHUNK = 2**22


def trials(context: Context) -> Iterator[Trial]:
    for fault, case in CASES.items():
        for seed, _ in context.seeds(fault, 1):
            yield case(context, fault, seed)
    if context.s3_endpoint:
        for fault, seed in ((f, s) for f in S3_CASES for s, _ in context.seeds(f, 1)):
            yield S3_CASES[fault](context, fault, seed)


@dataclass
class Watch:
    """Looks at a trial's processes and temporary files while its commands run."""

    here: Place
    folders: Sequence[Path] = ()
    leaks: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    """Addresses that others than this machine can reach."""
    sockets: int = 0
    looks: int = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.look_at_files()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(0.3):
            self._look()

    def _look(self) -> None:
        self.looks += 1
        pids = self.here.processes()
        for pid in pids:
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if SECRET.encode() in command:
                    self.leaks.add(f"command line {command[:60]!r}")
        for name, address in listening(pids):
            self.sockets += 1
            if is_open_to_others(address):
                self.open.add(f"{name} listens on {address}")
        self.look_at_files()

    def look_at_files(self) -> None:
        for folder in (self.here.folder, *self.folders):
            for path in _files(folder):
                with contextlib.suppress(OSError):
                    if _holds_secret(path):
                        self.leaks.add(f"file {path.name} below {folder.name}")
        for path in self.here.folder.iterdir():
            with contextlib.suppress(OSError):
                if path.is_dir() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                    self.leaks.add(f"others may look into {path.name.rpartition('-')[0]}")


def _files(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return []


def _holds_secret(path: Path) -> bool:
    """In its bytes, in its name, or in a table's cells, which are compressed."""
    if SECRET in str(path):
        return True
    data = path.read_bytes() if path.stat().st_size < 2**28 else b""
    return SECRET.encode() in data or SECRET in _cells(data)


def _cells(data: bytes) -> str:
    if not data.startswith(b"PAR1"):
        return ""
    with contextlib.suppress(Exception):
        table = pq.read_table(io.BytesIO(data))
        return f"{table.schema.metadata} {table.to_pylist()}"
    return ""


@dataclass(frozen=True)
class Step:
    """One command: its words, and the exit codes that are right."""

    words: tuple[object, ...]
    codes: tuple[int, ...] = (0,)
    faults: Mapping[str, object] = field(default_factory=dict)


def examine(
    fault: str,
    seed: int,
    workload: Workload,
    steps: Sequence[Step],
    *,
    outputs: Sequence[str] = (),
    found: Callable[[str], str] = lambda words: "",
) -> Trial:
    """Do commands under watch; then search output, temporary folder and terminal."""
    local = [Path(workload.output(name)) for name in outputs if workload.output(name).startswith("/")]
    for name in outputs:
        workload.remove(name)
    codes = []
    with place() as here:
        watch = Watch(here, local)
        with watch.watching():
            for step in steps:
                codes.append(run(here, *step.words, **step.faults))
            for name in outputs:
                for words in COMMANDS:
                    run(here, words[0], workload.output(name), *words[1:])
        words = said(here)
        leaks = watch.leaks | {
            f"terminal: {line.strip()[:150]}" for line in words.splitlines() if SECRET in line
        }
        left = [name for name in here.left_files() if not name.startswith("hsperf")]
    for name in outputs:
        leaks |= _in_bucket(workload, name)
    ended = sum(code in step.codes for code, step in zip(codes, steps, strict=True))
    wrong = f"exit codes {codes}: {words[-300:]}" if ended < len(codes) else ""
    problems = [*sorted(leaks), *sorted(watch.open), *(["a traceback"] if "Traceback" in words else [])]
    return Trial(
        section="secrecy",
        fault=fault,
        seed=seed,
        runs=len(steps),
        ended_right=ended,
        left=tuple(left),
        found="; ".join(filter(None, (wrong, found(words), *problems))),
        note=f"{watch.looks} looks, {watch.sockets} sockets seen",
    )


def _in_bucket(workload: Workload, name: str) -> set[str]:
    if workload.output(name).startswith("/"):
        return set()
    files, root = fsspec.core.url_to_fs(workload.output(name), **workload.options)
    files.invalidate_cache()
    found = set()
    for path in files.find(root):
        data = files.cat_file(path)
        if SECRET in path or SECRET.encode() in data or SECRET in _cells(data):
            found.add(f"object {path}")
    workload.remove(name)
    return found


class _Handler(http.server.BaseHTTPRequestHandler):
    """Files to who has the password or the signature; the path asks for 404, 403, hanging, cut."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, folder: Path, **options: Any) -> None:
        self._folder = folder
        super().__init__(*arguments, **options)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        signed = SECRET in "".join(parse_qs(url.query).get("X-Amz-Signature", []))
        path = self._folder / Path(url.path).name
        if not signed and not self.headers.get("Authorization", "").startswith("Basic "):
            self._answer(403, b"denied")
        elif "hang" in url.path and self.command == "GET":
            time.sleep(2)
            self.close_connection = True
        elif not path.exists():
            self._answer(404, b"not here")
        else:
            data = path.read_bytes()
            self._answer(200, data[: len(data) // 2] if "cut" in url.path else data)

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{zlib.crc32(data)}"')
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(OSError):
                self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no news."""


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """`127.0.0.1:PORT` of a server that asks for credentials."""
    handler = functools.partial(_Handler, folder=folder)
    with _Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _urls(workload: Workload, host: str, how: str, night: int = 1) -> Path:
    """A manifest of the archive's files, and of files that are refused in each way."""
    prefix = "scene-" if workload.kind == "scenes" else "line-"
    names = sorted(path.name for path in (workload.folder / "in").glob(f"{prefix}*"))[:4]
    bad = names[0]
    paths = [*(f"a/{name}" for name in names), f"a/absent-{bad}", f"cut/b-{bad}", f"hang/c-{bad}"]
    for path in paths[-2:]:
        target = workload.folder / "in" / Path(path).name
        if not target.exists():
            target.symlink_to(workload.folder / "in" / bad)
    if how == "password":
        lines = [f"http://user:{SECRET}@{host}/{path}" for path in paths]
        lines.append(f"http://{host}/a/forbidden.tif?se=2026&sig={SECRET}")
    else:
        query = f"X-Amz-Expires=60&X-Amz-Credential={SECRET}c{night}&X-Amz-Signature={SECRET}{night}"
        lines = [f"http://{host}/{path}?{query}" for path in paths]
    manifest = workload.folder / f"{how}.txt"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def _workload(context: Context, kind: Kind, **more: Any) -> Workload:
    return make_workload(kind, context.work / f"secrecy-{kind}", size=2, **more)


def password_in_url(context: Context, fault: str, seed: int) -> Trial:
    workload = _workload(context, "scenes")
    with web_server(workload.folder / "in") as host:
        job = workload.job(
            "url", inputs=str(_urls(workload, host, "password")), executor="ray", lease_timeout=20
        )
        steps = [
            Step(("plan", job)),
            Step(("run", job), (3,)),
            Step(("run", job, "--executor", "inline"), (0, 3)),
        ]
        return examine(fault, seed, workload, steps, outputs=["url"])


def signed_urls(context: Context, fault: str, seed: int) -> Trial:
    """The second night signs anew: nothing is done again."""
    workload = _workload(context, "photographs")
    with web_server(workload.folder / "in") as host:
        inputs = str(_urls(workload, host, "signed"))
        job = workload.job("signed", inputs=inputs, executor="inline", lease_timeout=20)
        first = examine(fault, seed, workload, [Step(("run", job), (3,))])
        _urls(workload, host, "signed", night=2)

        def nothing_new(words: str) -> str:
            return "" if "0 photographs done, 4 done before" in words else f"done again: {words[-300:]}"

        steps = [Step(("run", job), (0, 3)), Step(("summary", workload.output("signed")))]
        again = examine_kept(fault, seed, workload, steps, "signed", nothing_new)
        return merged(first, again)


def examine_kept(
    fault: str, seed: int, workload: Workload, steps: Sequence[Step], name: str, found: Callable[[str], str]
) -> Trial:
    """`examine`, of an output that is there."""
    with place() as here:
        watch = Watch(here, [Path(workload.output(name))])
        with watch.watching():
            codes = [run(here, *step.words, **step.faults) for step in steps]
        words = said(here)
    leaks = watch.leaks | watch.open | ({"terminal"} if SECRET in words else set())
    workload.remove(name)
    ended = sum(code in step.codes for code, step in zip(codes, steps, strict=True))
    wrong = f"exit codes {codes}" if ended < len(codes) else ""
    problems = "; ".join(filter(None, (wrong, found(words), *sorted(leaks))))
    return Trial(
        section="secrecy", fault=fault, seed=seed, runs=len(steps), ended_right=ended, found=problems
    )


def merged(first: Trial, second: Trial) -> Trial:
    return Trial(
        section=first.section,
        fault=first.fault,
        seed=first.seed,
        runs=first.runs + second.runs,
        ended_right=first.ended_right + second.ended_right,
        left=first.left + second.left,
        found="; ".join(filter(None, (first.found, second.found))),
        note=first.note,
    )


def damaged_jobs(context: Context, fault: str, seed: int) -> Trial:
    """Job files that are refused: nothing of what they say of the storage is shown."""
    workload = _workload(context, "scenes")
    texts = (
        f"storage: {{s3: {{key: {SECRET}, secret: [{SECRET}}}}}\n",
        f"storage: {{s3: {{secret: {SECRET}}}, az: {SECRET}}}\n",
        f"storage: {SECRET}\n",
        f"storage: {{s3: {{secret: {SECRET}}}}}\nstorage: {{}}\n",
        f"\tsecret: {SECRET}\n",
        f"storage: {{s3: {{secret: '{SECRET}}}}}\n",
        f"inputs: http://u:{SECRET}@127.0.0.1:9/a.tif\nmodel: x\noutput: sftp://u:{SECRET}@127.0.0.1/x\n",
    )
    steps = []
    for number, text in enumerate(texts):
        path = workload.folder / f"damaged-{number}.yaml"
        path.write_text(text)
        steps.append(Step(("plan", path), (2, 4)))
    job = workload.job("set", executor="inline")
    steps.append(Step(("plan", job, "--set", f"storage.s3.secret=[{SECRET}"), (2,)))
    trial = examine(fault, seed, workload, steps[:-1])
    # The user's own words are on the command line; what batchseg says of them is not.
    with place() as here:
        code = run(here, *steps[-1].words)
        shown = "what --set says is shown" if SECRET in said(here) else ""
    kept = Trial(section="secrecy", fault=fault, seed=seed, ended_right=code == 2, found=shown)
    return merged(trial, kept)


def environment(context: Context, fault: str, seed: int) -> Trial:
    """Secrets of the environment, the model's key among them, in runs that fail."""
    workload = _workload(context, "scenes")
    more = {
        "AWS_SECRET_ACCESS_KEY": f"{SECRET}aws",
        "AWS_SESSION_TOKEN": f"{SECRET}session",
        "FSSPEC_S3": json.dumps({"secret": f"{SECRET}fsspec", "endpoint_url": "http://127.0.0.1:9"}),
        "BATCHSEG_MODEL_KEY": f"{SECRET}model",
        "ARCHIVE_PASSWORD": f"{SECRET}archive",
    }
    with environment_of(more):
        job = workload.job("env", executor="ray")
        remote = workload.job("remote", inputs="s3://bucket/${ARCHIVE_PASSWORD}/*.tif", executor="inline")
        encrypted = workload.folder / "encrypted"
        encrypted.mkdir(exist_ok=True)
        (encrypted / "model.json.enc").write_bytes(b"BSEGENC1" + bytes(200))
        (encrypted / "model.pdiparams.enc").write_bytes(b"BSEGENC1" + bytes(200))
        locked = workload.job("locked", model=str(encrypted), executor="inline")
        steps = [
            Step(("run", job)),
            Step(("run", remote), (2, 5)),
            Step(("run", locked), (4,)),
            Step(("model", "inspect", encrypted), (4,)),
        ]
        return examine(fault, seed, workload, steps, outputs=["env"])


def defect(context: Context, fault: str, seed: int) -> Trial:
    """A defect whose message holds all of the environment, in a reader and in the driver."""
    workload = _workload(context, "scenes")
    with environment_of({"ARCHIVE_TOKEN": f"{SECRET}token"}):
        steps = [
            Step(("run", workload.job("defect", executor="ray")), (3,), {"defect": "scene-00"}),
            Step(("run", workload.job("defect2", executor="inline")), (3,), {"defect": "scene-00"}),
        ]
        trial = examine(fault, seed, workload, steps, outputs=["defect", "defect2"])
    return Trial(
        **{**_values(trial), "found": trial.found.replace("; a traceback", "").replace("a traceback", "")}
    )


def _values(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in trial.__dataclass_fields__}


def loopback(context: Context, fault: str, seed: int) -> Trial:
    """Ray's servers, of a run over scenes, as /proc tells them."""
    workload = _workload(context, "scenes")
    workload.remove("loopback")
    with place() as here:
        watch = Watch(here)
        with watch.watching():
            code = run(here, "run", workload.job("loopback", executor="ray"), slow=0.02)
        left = here.left_files()
    workload.remove("loopback")
    return Trial(
        section="secrecy",
        fault=fault,
        seed=seed,
        ended_right=code == 0,
        left=tuple(left),
        found="; ".join(sorted(watch.open | watch.leaks)) or ("" if watch.sockets else "no socket was seen"),
        note=f"{watch.sockets} sockets in {watch.looks} looks",
    )


class _Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def hostile_files(context: Context, fault: str, seed: int) -> Trial:
    """Pickles and YAML tags under each name that batchseg reads back."""
    workload = _workload(context, "scenes")
    canary = context.work / f"canary-{os.getpid()}"
    yaml_tag = f"!!python/object/apply:os.mkdir ['{canary}']\n"
    bombs = (pickle.dumps(_Bomb(canary)), pickle.dumps(_Bomb(canary), 0), yaml_tag.encode())
    cache = context.work / f"cache-{os.getpid()}"
    crashed, ended, runs = "", 0, 0
    with environment_of({"BATCHSEG_MODEL_CACHE": str(cache)}):
        job = workload.job("hostile", executor="inline")
        with place() as here:
            workload.remove("hostile")
            _interrupted(here, job)
            output = Path(workload.output("hostile"))
            targets = [p for p in _files(output) if p.suffix != ".xml"]
            targets = list({p.parent.name + p.suffix: p for p in targets}.values()) + _files(cache)
            for number, path in enumerate(targets):
                right = path.read_bytes() if path.exists() else b""
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bombs[number % len(bombs)])
                for words in (("status", output), ("verify", output), ("run", job)):
                    code = run(here, *words)
                    runs, ended = runs + 1, ended + (code in (0, 2, 3, 4, 5))
                    crashed += (
                        "" if code in (0, 2, 3, 4, 5) else f"{words[0]} with hostile {path.name}: {code}; "
                    )
                if path.parent.exists():  # it is not where the run made the scene
                    path.write_bytes(right)
            model = workload.folder / "hostile-model"
            model.mkdir(exist_ok=True)
            for name in ("deploy.yaml", "inference.yml"):
                (model / name).write_text(yaml_tag)
            (model / "model.pdiparams").write_bytes(bombs[0])
            (model / "model.json").write_bytes(bombs[1])
            (model / "m.yaml").write_text(f"inputs: {yaml_tag}model: x\noutput: y\n")
            for words in (("model", "inspect", model), ("plan", model / "m.yaml")):
                code = run(here, *words)
                runs, ended = runs + 1, ended + (code in (2, 4))
                crashed += "" if code in (2, 4) else f"{words[0]}: {code}; "
    workload.remove("hostile")
    executed = "a hostile file was executed; " if canary.exists() else ""
    return Trial(
        section="secrecy",
        fault=fault,
        seed=seed,
        times=len(targets) + 5,
        runs=runs,
        ended_right=ended,
        found=executed + crashed,
    )


def _interrupted(here: Place, job: Path) -> None:
    """So that fragments and segments are there, too."""
    process = start(here, "run", job, slow=0.05)
    wait_for(lambda: len(here.predicted()) >= 60, 300)
    kill([process.pid])
    process.wait()


def bucket_secret(context: Context, fault: str, seed: int, *, right: bool = True) -> Trial:
    """Keys in the job file's storage options: the right ones, wrong ones, and no server."""
    options = {
        "endpoint_url": context.s3_endpoint,
        "key": os.environ["AWS_ACCESS_KEY_ID"],
        "secret": os.environ["AWS_SECRET_ACCESS_KEY"],
    }
    files = fsspec.filesystem("s3", **options)
    if not files.exists("rsecrecy"):
        files.mkdir("rsecrecy")
    workload = _workload(context, "scenes", output_root="s3://rsecrecy", options=options)
    good = {"endpoint": context.s3_endpoint, "key": options["key"], "secret": options["secret"]}
    wrong = good | {"secret": f"{SECRET}wrong"}
    nobody = good | {"key": f"{SECRET}key", "endpoint": "http://127.0.0.1:9"}
    with environment_of({"ARCHIVE_SECRET": f"{SECRET}beside"}):
        steps = [
            Step(("run", workload.job("s3", executor="ray", storage={"s3": good}))),
            Step(("run", workload.job("wrong", executor="inline", storage={"s3": wrong})), (2, 5)),
            Step(("run", workload.job("nobody", executor="inline", storage={"s3": nobody})), (2, 5)),
        ]
        return examine(fault, seed, workload, steps, outputs=["s3"])


@contextlib.contextmanager
def environment_of(more: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


CASES: dict[str, Callable[[Context, str, int], Trial]] = {
    "password in URLs": password_in_url,
    "signed URLs": signed_urls,
    "job files that are refused": damaged_jobs,
    "secrets in the environment": environment,
    "secrets in a defect's message": defect,
    "Ray on loopback only": loopback,
    "pickles and YAML tags in place of batchseg's files": hostile_files,
}
S3_CASES: dict[str, Callable[[Context, str, int], Trial]] = {
    "keys of a bucket in the job file": bucket_secret
}
