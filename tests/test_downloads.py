"""Downloads of official checkpoints, against a local server that answers as Google Drive does."""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
import torch

from frostline import checkpoints, downloads
from frostline.checkpoints import CHECKPOINTS, load_checkpoint, official_state, save_checkpoint
from frostline.errors import CheckpointError
from frostline.model import Encoder, EncoderConfig

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
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
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
    yield server
    server.server.shutdown()
    server.thread.join()
    server.server.server_close()


def test_a_download_is_complete_recorded_and_loads_by_name(drive):
    folder = downloads.download(NAME)
    assert folder == checkpoints.cache_folder() / NAME
    assert sorted(f.name for f in folder.iterdir()) == [
        "args.json",
        "best_model.pt",
        "model.safetensors",
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
    monkeypatch.setattr(downloads, "RETRIES", 0)
    half = len(official_files["best_model.pt"]) // 2
    drive.cut_after["best_model.pt"] = half
    with pytest.raises(CheckpointError, match="goes on from there"):
        downloads.download(NAME)
    assert not (checkpoints.cache_folder() / NAME).exists()
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


def test_loading_refuses_weights_that_changed_since_the_download(drive):
    folder = downloads.download(NAME)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="frostline checkpoints download heart"):
        load_checkpoint(NAME)


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
    assert [path.name for path in checkpoints.cache_folder().iterdir() if path.is_dir()] == []


def test_without_a_network_the_error_has_the_offline_way(monkeypatch, tmp_path):
    def refuse(*_args, **_options):
        raise requests.exceptions.ConnectionError("no route")

    monkeypatch.setattr(requests.Session, "request", refuse)
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"no route.*drive/folders/1GcgXrd7apn6.*pass its path, or use 'mini'"):
        downloads.download(NAME)


def test_a_checkpoint_that_is_not_downloaded_says_how_to(monkeypatch, tmp_path):
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"frostline checkpoints download whole-human\. Without a network"):
        load_checkpoint("whole-human")


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
