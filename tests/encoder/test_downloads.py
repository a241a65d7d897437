"""Downloads of official checkpoints, against local servers that answer as Google Drive and the Hub do."""

import dataclasses
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import torch

from frostline import cli
from frostline.encoder import catalogue, downloads, sources
from frostline.encoder.catalogue import CHECKPOINTS, Pin
from frostline.encoder.checkpoints import load_checkpoint, official_state, save_checkpoint
from frostline.encoder.model import Encoder, EncoderConfig
from frostline.errors import Cancelled, CheckpointError
from frostline.monitor import Monitor

NAME = "heart"
IDS = {name: f"{name.split('.')[0]:x<28}" for name in downloads.FILES}  # Drive's ids have 25 characters or more


@pytest.fixture(scope="module")
def official_files(tmp_path_factory):
    """The three files of an official checkpoint, small, but of several of gdown's 512 kB pieces."""
    folder = tmp_path_factory.mktemp("official")
    torch.manual_seed(0)
    n = 30_000
    vocabulary = {f"GENE{i}": i for i in range(n)} | {"<pad>": n, "<cls>": n + 1, "<eoc>": n + 2}
    encoder = Encoder(EncoderConfig(n + 3, 16, 2, 24, 2, 0.2, pad_id=n, cls_id=n + 1))
    save_checkpoint(folder, encoder, vocabulary)
    state = official_state(encoder) | {"flag_encoder.weight": torch.zeros(2, 16)}
    torch.save(state, folder / "best_model.pt")
    return {name: (folder / name).read_bytes() for name in downloads.FILES}


class Drive:
    """A folder listing, a virus-scan page before the weights, and byte ranges."""

    def __init__(self, files):
        self.files, self.served, self.cut_after, self.lock = dict(files), [], {}, threading.Lock()
        drive = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                drive.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler):
        parts = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        if parts.path == "/embeddedfolderview":
            known = query["id"] == CHECKPOINTS[NAME].drive_folder
            links = "".join(f'<a href="https://drive.google.com/file/d/{IDS[n]}/view">{n}</a>' for n in self.files)
            self.page(handler, f"<html><title>heart</title>{links}</html>", 200 if known else 404)
            return
        name = {drive_id: name for name, drive_id in IDS.items()}[query["id"]]
        if name == "best_model.pt" and "confirm" not in query:
            form = (
                '<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
                f'<input type="hidden" name="id" value="{IDS[name]}">'
                '<input type="hidden" name="confirm" value="t"></form>'
            )
            self.page(handler, f"<html>cannot scan for viruses {form}</html>", 200)
            return
        self.file(handler, name)

    @staticmethod
    def page(handler, text, status):
        body = text.encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "text/html; charset=utf-8")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def file(self, handler, name):
        body = self.files[name]
        wanted = handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        with self.lock:
            self.served.append((name, start))
            cut = self.cut_after.pop(name, None)
        handler.send_response(206 if wanted else 200)
        handler.send_header("Content-Type", "application/octet-stream")
        handler.send_header("Content-Disposition", f'attachment; filename="{name}"')
        handler.send_header("Content-Length", str(len(body) - start))
        if wanted:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.end_headers()
        handler.wfile.write(body[start : start + cut] if cut else body[start:])
        if cut:
            handler.close_connection = True

    def fetched(self, name):
        return [start for served, start in self.served if served == name]


@pytest.fixture
def drive(official_files, monkeypatch, tmp_path):
    """Send what goes to Google's hosts to the stand-in; everything else may not leave."""
    server = Drive(official_files)
    real = requests.Session.request

    def request(session, method, url, **options):
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname in {"drive.google.com", "drive.usercontent.google.com"}, url
        return real(session, method, f"{server.url}{parts.path}?{parts.query}", **options)

    monkeypatch.setattr(requests.Session, "request", request)
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(CHECKPOINTS, NAME, dataclasses.replace(CHECKPOINTS[NAME], hub=(), pins={}))
    yield server
    server.server.shutdown()
    server.thread.join()
    server.server.server_close()


def test_a_download_is_complete_recorded_and_loads_by_name(drive):
    folder = downloads.download(NAME)
    assert folder == catalogue.cache_folder() / NAME
    assert sorted(f.name for f in folder.iterdir()) == [
        "args.json",
        "best_model.pt",
        "model.safetensors",
        "origin.json",
        "sha256.json",
        "vocab.json",
    ]
    assert downloads.verify(NAME) == []
    original = torch.load(folder / "best_model.pt", weights_only=True)
    loaded = official_state(load_checkpoint(NAME).encoder())
    assert all(torch.equal(loaded[key], original[key]) for key in loaded)
    assert [path.name for path in folder.parent.iterdir() if "partial" in path.name] == []


def test_a_second_download_fetches_nothing(drive):
    downloads.download(NAME)
    before = list(drive.served)
    downloads.download(NAME)
    assert drive.served == before


def test_two_at_once_download_once(drive):
    threads = [threading.Thread(target=downloads.download, args=(NAME,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name, _ in drive.served) == sorted(downloads.FILES)
    assert downloads.verify(NAME) == []


def test_an_interrupted_download_is_kept_and_resumed(drive, official_files, monkeypatch):
    monkeypatch.setattr(sources, "RETRIES", 0)
    half = len(official_files["best_model.pt"]) // 2
    drive.cut_after["best_model.pt"] = half
    with pytest.raises(CheckpointError, match="goes on from there"):
        downloads.download(NAME)
    assert not (catalogue.cache_folder() / NAME).exists()
    downloads.download(NAME)
    assert drive.fetched("args.json") == [0]
    starts = drive.fetched("best_model.pt")
    assert starts[0] == 0
    assert 0 < starts[-1] <= half
    assert downloads.verify(NAME) == []


def test_a_connection_that_breaks_once_is_retried_by_itself(drive, official_files):
    drive.cut_after["best_model.pt"] = 1_000_000
    downloads.download(NAME)
    starts = drive.fetched("best_model.pt")
    assert starts[0] == 0
    assert 0 < starts[-1] <= 1_000_000
    assert downloads.verify(NAME) == []


@pytest.mark.parametrize("file", ["model.safetensors", "best_model.pt", "vocab.json"])
def test_a_corrupted_file_is_noticed_named_and_repaired(drive, file):
    folder = downloads.download(NAME)
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    assert downloads.verify(NAME) == [f"{file}: altered (sha256 differs from the one recorded at download)"]
    fetched = list(drive.served)
    downloads.download(NAME)
    assert downloads.verify(NAME) == []
    again = [name for name, _ in drive.served[len(fetched) :]]
    assert again == ([] if file == "model.safetensors" else [file])  # only what was damaged


def test_loading_refuses_weights_that_changed_since_the_download(drive, monkeypatch):
    folder = downloads.download(NAME)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    follow(monkeypatch, r"repair it with: (frostline checkpoints download heart)$")


def swapped(text):
    """A vocabulary in which two genes have each other's ids."""
    ids = json.loads(text)
    ids["GENE1"], ids["GENE2"] = ids["GENE2"], ids["GENE1"]
    return json.dumps(ids)


ALTERED = {"vocab.json": swapped, "args.json": lambda text: text.replace('"nheads": 2', '"nheads": 4')}
"""Other encoders, which load as well as the downloaded one."""


@pytest.mark.parametrize("file", ALTERED)
def test_loading_refuses_other_files_that_changed_since_the_download(drive, monkeypatch, file):
    folder = downloads.download(NAME)
    load_checkpoint(NAME)
    (folder / file).write_text(ALTERED[file]((folder / file).read_text()))
    follow(monkeypatch, rf"{file} is not what was downloaded .*: (frostline checkpoints download heart)$")


def test_a_copy_of_the_folder_that_was_changed_says_what_to_remove(drive, tmp_path):
    """No download would repair it."""
    copy = shutil.copytree(downloads.download(NAME), tmp_path / "copy")
    (copy / "vocab.json").write_text(swapped((copy / "vocab.json").read_text()))
    with pytest.raises(CheckpointError, match=r"vocab\.json is not what .* or remove (\S+) if") as refused:
        load_checkpoint(copy)
    Path(re.search(r"remove (\S+) if", str(refused.value))[1]).unlink()
    assert load_checkpoint(copy).encoder().load_report


def test_the_command_of_a_checkpoint_that_is_not_downloaded_fetches_it(drive, monkeypatch):
    follow(monkeypatch, r"is not downloaded \(\d+ MB\): run (frostline checkpoints download heart)\.")


def follow(monkeypatch, pattern):
    """Run the command that loading is refused with, which helps."""
    with pytest.raises(CheckpointError, match=pattern) as refused:
        load_checkpoint(NAME)
    monkeypatch.setattr(sys, "argv", re.search(pattern, str(refused.value))[1].split())
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert load_checkpoint(NAME).encoder().load_report
    assert downloads.verify(NAME) == []


def test_a_missing_file_is_named_and_repaired(drive):
    folder = downloads.download(NAME)
    (folder / "best_model.pt").unlink()
    assert downloads.verify(NAME) == ["best_model.pt: missing"]
    downloads.download(NAME)
    assert downloads.verify(NAME) == []


def test_a_folder_that_lacks_a_file_is_refused(drive):
    del drive.files["vocab.json"]
    with pytest.raises(CheckpointError, match=r"lacks vocab\.json; it holds: args\.json, best_model\.pt"):
        downloads.download(NAME)


def test_weights_that_do_not_load_strictly_are_refused_and_not_kept(drive, official_files):
    args = json.loads(official_files["args.json"]) | {"nlayers": 3}
    drive.files["args.json"] = json.dumps(args).encode()
    with pytest.raises(CheckpointError, match=r"no usable checkpoint: .* missing: transformer_encoder\.layers\.2"):
        downloads.download(NAME)
    assert [path.name for path in catalogue.cache_folder().iterdir() if path.is_dir()] == []


def test_without_a_network_the_error_has_the_offline_way(monkeypatch, tmp_path):
    def refuse(*_args, **_options):
        raise requests.exceptions.ConnectionError("no route")

    monkeypatch.setattr(requests.Session, "request", refuse)
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"no route.*drive/folders/1oWh_.*pass its path, or use 'mini'") as caught:
        downloads.download("whole-human")
    assert time.perf_counter() - started < 5
    said = str(caught.value)
    assert "https://huggingface.co/u-cellm/scGPT-whole-human (args.json: " in said
    assert "wanglab/scGPT-human (" not in said  # the same host would not answer either
    assert "fetch args.json, vocab.json, best_model.pt elsewhere into one folder, from https://huggingface.co/" in said
    assert not list((tmp_path / "checkpoints").glob("*whole-human*/*"))


def test_who_is_offline_by_choice_is_not_asked_for_a_connection(monkeypatch, tmp_path, drive):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        CheckpointError, match=r"while HF_HUB_OFFLINE is set; unset it and start again\. Without a network, fetch"
    ):
        downloads.download(NAME)
    assert drive.served == []


FETCH = """
import dataclasses, sys
from frostline.encoder.catalogue import CHECKPOINTS
from frostline.encoder import downloads
CHECKPOINTS["heart"] = dataclasses.replace(CHECKPOINTS["heart"], hub=("one/scgpt",), pins={})
try:
    print(downloads.download("heart"))
except ValueError as error:
    sys.exit(str(error))
"""


@pytest.mark.slow
def test_unsetting_the_variable_and_starting_again_fetches_it(hub, monkeypatch):
    """In processes of their own: huggingface_hub reads the variable once, when it is imported."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = [sys.executable, "-c", FETCH]
    refused = subprocess.run(command, capture_output=True, text=True)
    (name,) = re.findall(r"while (\w+) is set; unset it and start again", refused.stderr)
    assert hub.served == []
    monkeypatch.delenv(name)
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert downloads.verify(NAME) == []


def test_a_checkpoint_that_is_not_downloaded_says_how_to(monkeypatch, tmp_path):
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"frostline checkpoints download whole-human\. Without a network"):
        load_checkpoint("whole-human")


class HubStandIn:
    """Repositories of the Hub: metadata on HEAD, bytes and byte ranges on GET."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self):
        self.repositories, self.served, self.cut_after, self.headers = {}, [], {}, []
        self.lengths, self.sent = {}, {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler, *, body):
        self.headers.append({key.lower(): value for key, value in handler.headers.items()})
        repository, _, file = handler.path.lstrip("/").partition("/resolve/main/")
        content = self.repositories.get(repository, {}).get(file)
        if content is None:
            handler.send_response(404)
            handler.send_header("X-Error-Code", "EntryNotFound" if repository in self.repositories else "RepoNotFound")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        wanted = handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        handler.send_response(206 if wanted else 200)
        handler.send_header("X-Repo-Commit", self.COMMIT)
        digest = hashlib.sha256(content).hexdigest() if file.endswith(".pt") else hashlib.sha1(content).hexdigest()
        handler.send_header("ETag", f'"{digest}"')
        size = self.lengths.get(file, len(content))
        if file.endswith(".pt"):
            handler.send_header("X-Linked-Size", str(size))
            handler.send_header("X-Linked-ETag", f'"{digest}"')
        handler.send_header("Content-Length", str(size - start))
        if wanted:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        handler.end_headers()
        if body:
            self.served.append((repository, file, start))
            sent, cut = self.sent.get(file, content), self.cut_after.pop(file, None)
            handler.wfile.write(sent[start : start + cut] if cut else sent[start:])
            handler.close_connection = bool(cut)

    def fetched(self, file):
        return [start for _, served, start in self.served if served == file]


FIRST, SECOND = "one/scgpt", "two/scgpt"


@pytest.fixture
def hub(official_files, drive, monkeypatch):
    """Two repositories that go before the stand-in of Drive, small pieces, and a token that nobody may see."""
    server = HubStandIn()
    server.repositories = {FIRST: dict(official_files), SECOND: dict(official_files)}
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    monkeypatch.setitem(CHECKPOINTS, NAME, dataclasses.replace(CHECKPOINTS[NAME], hub=(FIRST, SECOND)))
    yield server
    server.server.shutdown()
    server.thread.join()
    server.server.server_close()


def pin(monkeypatch, file, content, **known):
    """Make the sha256 of a file publicly known."""
    pins = {file: Pin(hashlib.sha256(content).hexdigest(), seen="public, seen in a test", **known)}
    monkeypatch.setitem(CHECKPOINTS, NAME, dataclasses.replace(CHECKPOINTS[NAME], pins=pins))


def flipped(content):
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


class TestHub:
    def test_the_first_source_that_has_all_files_is_enough(self, hub, drive, official_files):
        folder = downloads.download(NAME)
        assert all((folder / name).read_bytes() == content for name, content in official_files.items())
        assert hub.served == [(FIRST, name, 0) for name in downloads.FILES]
        assert drive.served == []
        assert downloads.verify(NAME) == []
        assert downloads.origin(NAME)["source"] == f"https://huggingface.co/{FIRST}"
        assert downloads.origin(NAME)["best_model.pt"] == "no public sha256: trusted as it was first downloaded"
        assert [path.name for path in folder.parent.iterdir() if "partial" in path.name] == []

    def test_no_token_no_cookie_and_no_list_of_what_is_installed_is_sent(self, hub, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None)  # as in a process that just began
        monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", str(tmp_path / "none.json"))
        downloads.download(NAME)
        assert len(hub.headers) == 2 * len(downloads.FILES)
        for headers in hub.headers:
            assert not {"authorization", "cookie"} & set(headers)
            assert headers["user-agent"].startswith("frostline/")
            assert "torch" not in str(headers)

    def test_sources_are_tried_in_order_and_each_failure_is_said(self, hub, drive):
        del hub.repositories[FIRST]
        del hub.repositories[SECOND]["vocab.json"]
        said = []
        downloads.download(NAME, monitor=Monitor(lambda _, message: said.append(message)))
        assert downloads.origin(NAME)["source"].startswith("https://drive.google.com/")
        failures = [message for message in said if "trying the next source" in message]
        assert [FIRST in failures[0], SECOND in failures[1], len(failures)] == [True, True, 2]
        assert downloads.origin(NAME)["not from"] == "; ".join(message.split("; trying")[0] for message in failures)
        assert "vocab.json" in failures[1]

    def test_when_all_fail_every_source_and_its_reason_is_said(self, hub, drive):
        hub.repositories = {FIRST: {}}
        del drive.files["best_model.pt"]
        with pytest.raises(CheckpointError) as caught:
            downloads.download(NAME)
        said = str(caught.value)
        for source, reason in ((FIRST, "404"), (SECOND, ""), ("drive.google.com", "the folder lacks best_model.pt")):
            assert reason in said.split(source, 1)[1]
        assert "\n" not in said

    def test_a_connection_that_breaks_goes_on_by_itself(self, hub):
        hub.cut_after["best_model.pt"] = 1_000_000
        downloads.download(NAME)
        assert hub.fetched("best_model.pt") == [0, 1_000_000]
        assert downloads.verify(NAME) == []

    def test_what_was_cancelled_is_resumed_by_the_next_attempt(self, hub):
        seen = []

        def heard(fraction, message):
            seen.append(message)
            if "best_model" in message and fraction > 0.4:
                raise Cancelled(message)

        with pytest.raises(Cancelled):
            downloads.download(NAME, monitor=Monitor(heard))
        downloads.download(NAME)
        first, second = hub.fetched("best_model.pt")
        assert (first, second > 500_000) == (0, True)
        assert hub.fetched("vocab.json") == [0]
        assert downloads.verify(NAME) == []

    def test_what_changed_at_the_source_meanwhile_is_not_resumed(self, hub, official_files):
        def heard(fraction, message):
            if "best_model" in message and fraction > 0.4:
                raise Cancelled(message)

        with pytest.raises(Cancelled):
            downloads.download(NAME, monitor=Monitor(heard))
        torch.manual_seed(1)
        state = torch.load(io.BytesIO(official_files["best_model.pt"]), weights_only=True)
        written = io.BytesIO()
        torch.save({name: tensor + 1 for name, tensor in state.items()}, written)
        hub.repositories[FIRST]["best_model.pt"] = content = written.getvalue()
        folder = downloads.download(NAME)
        assert hub.fetched("best_model.pt") == [0, 0]
        assert (folder / "best_model.pt").read_bytes() == content

    def test_one_flipped_byte_is_refused_deleted_and_the_next_source_asked(self, hub, official_files, monkeypatch):
        pin(monkeypatch, "best_model.pt", official_files["best_model.pt"])
        hub.sent["best_model.pt"] = flipped(official_files["best_model.pt"])
        said = []
        downloads.download(NAME, monitor=Monitor(lambda _, message: said.append(message)))
        assert sum("best_model.pt was damaged on its way" in message for message in said) == 2
        assert downloads.origin(NAME)["source"].startswith("https://drive.google.com/")
        assert downloads.origin(NAME)["best_model.pt"] == "sha256 public, seen in a test"

    def test_nothing_wrong_is_left_to_be_resumed(self, hub, drive, official_files, monkeypatch):
        pin(monkeypatch, "best_model.pt", official_files["best_model.pt"])
        hub.sent["best_model.pt"] = drive.files["best_model.pt"] = flipped(official_files["best_model.pt"])
        with pytest.raises(CheckpointError, match="another file than the known one: its sha256 is"):
            downloads.download(NAME)
        assert not list(catalogue.cache_folder().rglob("*best_model*"))
        hub.sent.clear()
        downloads.download(NAME)
        assert hub.fetched("best_model.pt") == [0, 0, 0]
        assert downloads.verify(NAME) == []

    def test_more_than_there_is_of_a_file_is_not_gone_on_with(self, hub, drive, official_files, monkeypatch):
        """As where another program has written into what had arrived."""
        content = official_files["best_model.pt"]
        with monkeypatch.context() as patch:
            patch.setattr("huggingface_hub.file_download.http_get", lambda *_, **__: 1 / 0)
            patch.setattr(drive, "files", {})
            with pytest.raises(CheckpointError, match="division by zero"):
                downloads.download(NAME)
        for part in [*catalogue.cache_folder().rglob("args.json.*.part")]:  # of each repository
            part.with_name(f"best_model.pt.{hashlib.sha256(content).hexdigest()[:16]}.part").write_bytes(b"!" + content)
        downloads.download(NAME)
        assert downloads.verify(NAME) == []
        assert hub.fetched("best_model.pt") == [0]

    def test_another_file_than_the_known_one_is_not_even_fetched(self, hub, drive, official_files, monkeypatch):
        pin(monkeypatch, "best_model.pt", official_files["best_model.pt"] + b"1")
        drive.files.clear()
        with pytest.raises(CheckpointError, match=r"best_model\.pt is another file than the known one.*seen in a test"):
            downloads.download(NAME)
        assert hub.fetched("best_model.pt") == []

    @pytest.mark.parametrize(("file", "by"), [("best_model.pt", 1), ("vocab.json", -1)])
    def test_a_wrong_size_is_refused_before_the_bytes_arrive(self, hub, drive, official_files, monkeypatch, file, by):
        pin(monkeypatch, file, official_files[file], size=len(official_files[file]) + by)
        with pytest.raises(CheckpointError, match=rf"{file} has [\d,]+ bytes there, and the known one has"):
            downloads.download(NAME)
        assert hub.fetched(file) == []
        assert drive.fetched(file) in ([], [0])
        assert not list(catalogue.cache_folder().rglob(f"*{file}"))

    def test_the_known_size_is_taken_and_not_a_byte_more(self):
        limits = sources._Limits("best_model.pt", Pin("0" * 64, size=10))
        limits.refuse_beyond(10)
        with pytest.raises(sources.SourceFailed, match=r"best_model\.pt has more than 10 bytes there"):
            limits.refuse_beyond(11)

    def test_more_bytes_than_there_can_be_are_refused(self, hub, drive):
        hub.lengths["best_model.pt"] = 2**40
        drive.files.clear()
        with pytest.raises(CheckpointError, match=r"best_model\.pt has more than 4,294,967,296 bytes there"):
            downloads.download(NAME)
        assert hub.fetched("best_model.pt") == []

    def test_args_with_further_keys_are_taken_and_it_is_said(self, hub, official_files, monkeypatch):
        pin(monkeypatch, "args.json", official_files["args.json"], gate=False)
        args = json.loads(official_files["args.json"]) | {"mirror": "two", "nested": {"a": [None]}}
        hub.repositories[FIRST]["args.json"] = json.dumps(args).encode()
        downloads.download(NAME)
        assert "differs from the sha256 that is public, seen in a test" in downloads.origin(NAME)["args.json"]

    def test_files_that_do_not_load_send_it_to_the_next_source(self, hub, official_files):
        args = json.loads(official_files["args.json"]) | {"nlayers": 3}
        hub.repositories[FIRST]["args.json"] = json.dumps(args).encode()
        said = []
        downloads.download(NAME, monitor=Monitor(lambda _, message: said.append(message)))
        assert any("no usable checkpoint" in message and FIRST in message for message in said)
        assert downloads.origin(NAME)["source"].endswith(SECOND)

    def test_a_repair_takes_only_what_was_first_trusted(self, hub, drive, official_files):
        folder = downloads.download(NAME)
        (folder / "vocab.json").write_bytes(flipped(official_files["vocab.json"]))
        (folder / "my notes.txt").write_text("mine")
        hub.repositories[FIRST]["vocab.json"] = flipped(official_files["vocab.json"])
        before = len(hub.served)
        downloads.download(NAME)
        assert hub.served[before:] == [(FIRST, "vocab.json", 0), (SECOND, "vocab.json", 0)]
        assert (folder / "vocab.json").read_bytes() == official_files["vocab.json"]
        assert downloads.verify(NAME) == []
        assert (folder / "my notes.txt").read_text() == "mine"

    def test_a_repair_says_where_the_files_are_from(self, hub, drive, official_files):
        """The first source was out of reach, and answers when the folder is repaired."""
        gone = hub.repositories.pop(FIRST)
        folder = downloads.download(NAME)
        first = downloads.origin(NAME)
        assert first["source"].endswith(SECOND)
        hub.repositories[FIRST] = gone
        served = len(hub.served)
        (folder / "model.safetensors").unlink()
        downloads.download(NAME)
        assert (downloads.origin(NAME), len(hub.served)) == (first, served)  # made of what is there
        for file in ("vocab.json", "args.json"):
            (folder / file).write_bytes(flipped(official_files[file]))
            downloads.download(NAME)
        here = f"https://huggingface.co/{FIRST}"
        assert downloads.origin(NAME) == first | {"repaired": f"vocab.json from {here}; args.json from {here}"}
        (folder / "origin.json").write_text("{}")
        downloads.download(NAME)
        assert downloads.origin(NAME)["source"] == "not known any more"

    def test_a_repair_that_fails_leaves_what_is_intact(self, hub, drive, monkeypatch):
        folder = downloads.download(NAME)
        (folder / "vocab.json").unlink()
        hub.repositories.clear()
        drive.files.clear()
        with pytest.raises(CheckpointError, match="could not be downloaded"):
            downloads.download(NAME)
        assert downloads.verify(NAME) == ["vocab.json: missing"]

    def test_what_an_earlier_version_took_is_held_to_what_is_known_now(self, hub, official_files, monkeypatch):
        downloads.download(NAME)
        pin(monkeypatch, "best_model.pt", official_files["best_model.pt"] + b"1")
        (problem,) = downloads.verify(NAME)
        assert problem == "best_model.pt: not the official file (sha256 differs from the public one)"


def test_every_official_checkpoint_has_size_description_and_source():
    official = [spec for spec in CHECKPOINTS.values() if spec.drive_folder]
    assert [spec.name for spec in official] == [
        "whole-human",
        "continual-pretrained",
        "brain",
        "blood",
        "heart",
        "lung",
        "kidney",
        "pan-cancer",
    ]
    assert all(len(spec.drive_folder) == 33 and spec.megabytes > 100 and spec.description for spec in official)
    assert all(spec.hub and spec.hub[-1].startswith("perturblab/scgpt-") for spec in official)


def test_the_public_sha256_are_those_of_the_official_files():
    whole, heart = CHECKPOINTS["whole-human"], CHECKPOINTS["heart"]
    assert whole.sources[0] == "https://huggingface.co/u-cellm/scGPT-whole-human"
    assert whole.sources[-1] == "https://drive.google.com/drive/folders/1oWh_-ZRdhtoGQ2Fw24HP41FgLoomVo-y"
    assert whole.pins["best_model.pt"].sha256.startswith("6cb5d451ab5c4b33")
    assert (whole.pins["best_model.pt"].size, set(whole.gates)) == (205_385_258, {"best_model.pt", "vocab.json"})
    assert heart.pins["best_model.pt"].sha256.startswith("23b4c43f403a4069")
    assert "unconfirmed" in CHECKPOINTS["continual-pretrained"].trust("best_model.pt")
    assert "trusted as it was first downloaded" in CHECKPOINTS["brain"].trust("best_model.pt")
    pins = [pin for spec in CHECKPOINTS.values() for pin in spec.pins.values()]
    assert all(len(bytes.fromhex(pin.sha256)) == 32 and pin.seen for pin in pins)
