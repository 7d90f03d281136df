import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from listings import listed

from batchseg.errors import ConfigError
from batchseg.job.file import load_job
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord, to_table
from batchseg.pixels.open import _relative
from batchseg.system import redact, storage
from batchseg.system.redact import hidden, impersonal, public, remember_user, remember_variables

S = "Xyzzy1234"
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1)

SIGNED = {
    f"https://u:{S}@host/a/b.tif": "https://host/a/b.tif",
    f"https://{S}@host:81/b.tif": "https://host:81/b.tif",
    f"https://h/b.tif?X-Amz-Date=1&X-Amz-Expires=60&X-Amz-Signature={S}": "https://h/b.tif",
    f"https://a.blob/b.tif?sv=2026&se=2026-11-21&sr=b&sp=r&sig={S}": "https://a.blob/b.tif",
    f"https://h/get?id=7&token={S}": "https://h/get?id=7",
    f"s3://key:{S}/+{S}@bucket/a@b.tif": "s3://bucket/a@b.tif",
    f"https://u:p@{S}@host/b.tif": "https://host/b.tif",
    f"https://h/b.tif?Expires=1&Signature={S}&Key-Pair-Id=K": "https://h/b.tif",
}


@pytest.mark.parametrize("uri", SIGNED)
def test_a_uri_loses_what_signs_it_and_no_more(uri):
    assert public(uri) == SIGNED[uri]
    assert S not in hidden(f"cannot read ({uri}): it's gone")


@pytest.fixture
def memory(monkeypatch):
    """What a process remembers, for one test."""
    monkeypatch.setattr(redact, "_users", set())
    monkeypatch.setattr(redact, "_variables", {})


@pytest.mark.parametrize(
    "uri",
    [
        "https://h:8080/a@b.tif",
        "https://h:80/x?to=a@b",
        "s3://b/a:b/c@d.tif",
        "https://h/a:b@c",
        "/in/s@t:u@v",
    ],
)
def test_ports_and_names_are_no_credentials(uri):
    assert public(uri) == uri
    assert hidden(f"cannot read {uri}") == f"cannot read {uri}"


def test_an_address_in_use_is_hidden_without_its_protocol_too(memory):
    said = f'Invalid bucket name "key:{S}/{S}@bucket"; {S}%2F: {S}/'
    assert hidden(said) == said
    assert hidden(f"bucket key:{S}") == f"bucket key:{S}"
    storage.filesystem(f"memory://key:{S}/{S}@bucket/a.tif")
    assert hidden(said) == 'Invalid bucket name "***@bucket"; ***%2F: ***/'
    assert hidden(f"bucket key:{S}") == "bucket ***"
    remember_user("https://u:per%20cent@h/a.tif")
    assert hidden("per%20cent per cent") == "*** ***"


def test_not_more_is_remembered_than_can_be_looked_for(memory, monkeypatch):
    monkeypatch.setattr(redact, "MOST_USERS", 3)
    for number in range(9):
        remember_user(f"https://user{number}:password{number}@h/")
    assert hidden("password0 password8") == "*** password8"


def test_variables_of_the_job_are_named(memory):
    remember_variables({"ARCHIVE": "/mnt/archive", "WHERE": "/mnt/archive/north", "HALO": "64"})
    assert impersonal("/mnt/archive/north/a /mnt/archive/b: 64") == "${WHERE}/a ${ARCHIVE}/b: 64"
    assert hidden("/mnt/archive/b") == "/mnt/archive/b", "a report says where results lie"
    remember_variables({"WHAT": "images", "PATTERN": r"\\1(?P<a>"})
    assert impersonal("5 images of /in/images/a: 'images'") == "5 images of /in/${WHAT}/a: '${WHAT}'"
    assert impersonal(r"x\\1(?P<a>y") == "x${PATTERN}y"


@pytest.mark.parametrize(
    ("value", "uri"),
    [
        ("sEcr/et+key", "s3://AKIAKEY123:sEcr/et+key@bucket/a"),
        ("sEcret@bucket", "s3://AKIAKEY123:sEcret@bucket/a"),
        ("KEY123:sEcret", "s3://AKIAKEY123:sEcret@bucket/a"),
        ("s3://AKIAKEY", "s3://AKIAKEY123:sEcret@bucket/a"),
    ],
)
def test_a_variable_that_is_part_of_a_user_leaves_nothing_of_it(memory, value, uri):
    remember_variables({"PART": value})
    remember_user(uri)
    user = uri.partition("://")[2].rpartition("@")[0]
    for text in (uri, f"bad bucket {user}", f"'{user}@bucket'"):
        assert "AKIA" not in impersonal(text)
        assert "cr" not in impersonal(text)


def test_a_variable_that_is_part_of_a_secret_leaves_nothing_of_it(memory, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "Endpoint=x;AccountKey=sEcret123")
    remember_variables({"KEY": "sEcret123", "ARCHIVE": "s3://user:sEcret123@bucket/north"})
    assert impersonal("bad: Endpoint=x;AccountKey=sEcret123") == "bad: ***"
    assert impersonal("no sEcret123 here") == "no ${KEY} here"
    assert impersonal("s3://user:sEcret123@bucket/north/a.tif") == "${ARCHIVE}/a.tif"


@given(WORDS, WORDS)
def test_what_holds_no_credentials_stays(folder, name):
    for uri in (f"/{folder}/{name}?token=a", f"s3://{folder}/{name}", f"https://{folder}/{name}?id=4&page=2"):
        assert public(uri) == uri
    text = f"{folder}/{name}: a? b@c"
    assert hidden(text) == text


def test_secrets_of_the_environment_are_hidden_wherever_they_stand(monkeypatch):
    monkeypatch.setenv(
        "FSSPEC_S3", json.dumps({"secret": S, "client_kwargs": {"token": S[::-1]}, "anon": True})
    )
    monkeypatch.setenv("ARCHIVE_PASSWORD", "correct horse")
    monkeypatch.setenv("SHORT_TOKEN", "on")
    text = hidden(f"on {S} and {S[::-1]}: correct horse")
    assert text == "on *** and ***: ***"


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Authorization": f"Bearer {S}"}},
        {"token": {"private_key": S, "type": "account"}},
        {"client_kwargs": {"auth": ["user", S]}},
        {"cookies": {"session": S}},
    ],
)
def test_secrets_below_an_option_that_is_one_are_hidden(monkeypatch, options):
    monkeypatch.setenv("FSSPEC_HTTP", json.dumps(options | {"endpoint": "https://host.example"}))
    assert hidden(f"of account: Bearer {S}") in ("of account: Bearer ***", "of account: ***")
    assert hidden("https://host.example") == "https://host.example"


@pytest.mark.parametrize("uri", SIGNED)
def test_a_ledger_holds_no_credentials(tmp_path, uri):
    ledger = Ledger(str(tmp_path))
    error = f"cannot read {uri}"
    rows = [SceneRecord(status="failed", source_id=name, tag="1", uri=uri, error=error) for name in "ab"]
    ledger.append(rows[:1])
    ledger.append_table(to_table(rows[1:]))
    for table in (ledger.table(), Ledger(str(tmp_path)).table()):
        assert S not in str(table.to_pylist())
        assert table.column("uri").to_pylist() == [SIGNED[uri]] * 2


def test_a_copy_of_a_signed_file_has_a_plain_and_short_name():
    signed = f"https://u:{S}@h/d/a.tif?X-Amz-Security-Token={S * 99}"
    assert _relative(signed) == "h/d/a.tif"


def test_photographs_keep_ids_and_lose_signatures(tmp_path, monkeypatch):
    import batchseg.inputs.photo_files as module

    uris = [f"https://u:{S}@h/d/{n}.png?X-Amz-Signature={S}{n}" for n in range(3)]
    (tmp_path / "m.txt").write_text("\n".join(uris))
    files = module.walk.Files()
    for uri in uris:
        files.add(uri, 5, "tag", None)
    monkeypatch.setattr(module.walk, "look", lambda names, notice: files)
    table = listed(tmp_path / "m.txt")
    assert table["source_id"].to_pylist() == ["0.png", "1.png", "2.png"]
    assert table["uri"].to_pylist() == uris  # by which they are read
    assert isinstance(table, pa.Table)


@pytest.mark.parametrize(
    "text",
    [
        f"storage: {{s3: {{key: k, secret: [{S}}}}}",
        f"storage: {{s3: {{secret: {S}}}, az: 4}}",
        f"storage: {S}",
        f"\tsecret: {S}",
    ],
)
def test_a_refused_job_file_shows_no_storage_option(tmp_path, text):
    path = tmp_path / "job.yaml"
    path.write_text(f"inputs: a\nmodel: m\noutput: o\n{text}\n")
    with pytest.raises(ConfigError, match=r"line|storage") as caught:
        load_job(path)
    assert S not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load_job(path, [f"storage.s3.secret=[{S}"])
    assert S not in str(caught.value)
