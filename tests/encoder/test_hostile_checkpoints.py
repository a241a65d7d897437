"""Checkpoints as strangers send them: absurd, deep, doubled or poisoned, and refused in two seconds with a sentence."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.embedding import encode, tokenize_cells
from frostline.encoder.torch_archives import Dense, describe
from frostline.encoder.weight_files import look_into
from frostline.errors import CheckpointError
from frostline.strategies import FrozenProbe, HeadTuning

pytestmark = pytest.mark.slow

NORM = "transformer_encoder.layers.1.norm2"


@pytest.fixture
def folder(small_checkpoint, tmp_path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(small_checkpoint, tmp_path / "copy"))


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}


def as_official(folder: Path, state: object) -> Path:
    """Write best_model.pt in the place of the safetensors."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    torch.save(state, folder / "best_model.pt")
    return folder / "best_model.pt"


def records_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_records(path: Path, records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)


def with_pickle(folder: Path, content: bytes) -> None:
    """Replace data.pkl of a best_model.pt that is otherwise right."""
    path = as_official(folder, state_of(folder))
    write_records(path, records_of(path) | {"best_model/data.pkl": content})


def refusal(folder: Path) -> str:
    """What is said when the checkpoint is refused, on one line and at once."""
    started = time.perf_counter()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder).encoder()
    assert time.perf_counter() - started < 2
    words = str(caught.value)
    assert "\n" not in words
    assert len(words) < 2_500
    return words


class TestJson:
    @pytest.mark.parametrize("name", ["args.json", "vocab.json"])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'{"a": "' + b"x" * 2**23 + b'"}', "has 8,388,617 bytes, and such a file has at most"),
            (b" " * 2**23, "bytes, and such a file has at most"),
            (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
            (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deep"),
            (b'{"embsize": 32, "<pad>": 0, "embsize": 64}', "holds the key 'embsize' twice"),
            (b'{"a": {"b": 1, "b": 1}}', "holds the key 'b' twice"),
            (b'{"embsize": ' + b"9" * 5_000 + b"}", "cannot be read as JSON"),
            (b'{"\xff": 1}', "cannot be read as JSON"),
            (b"\xef\xbb\xbf{}", "cannot be read as JSON"),
            ('{"a": 1}'.encode("utf-16"), "cannot be read as JSON"),
            (b"", "cannot be read as JSON"),
            (b"\0" * 1_000, "cannot be read as JSON"),
        ],
        ids=["long", "blank", "lists", "objects", "twice", "twice inside", "digits", "utf-8", "bom", "utf-16", "", "0"],
    )
    def test_size_depth_doubles_and_bytes(self, folder, name, content, message):
        (folder / name).write_bytes(content)
        words = refusal(folder)
        assert name in words
        assert message in words

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("embsize", 10**9),
            ("nheads", 10**6),
            ("d_hid", 10**12),
            ("nlayers", 10**6),
            ("nlayers", 65),
            ("pad_value", 1e30),
            ("pad_token", "x" * 100_000),
            ("input_emb_style", ["continuous"] * 10_000),
        ],
    )
    def test_numbers_and_texts_that_there_cannot_be(self, folder, key, value):
        args = json.loads((folder / "args.json").read_text()) | {key: value}
        (folder / "args.json").write_text(json.dumps(args))
        words = refusal(folder)
        assert "args.json" in words
        assert key in words

    def test_the_official_sizes_and_further_keys_are_taken(self, folder):
        args = json.loads((folder / "args.json").read_text())
        extra = {"mask_ratio": float("nan"), "notes": {"a": [1, {"b": None}]}}
        (folder / "args.json").write_text(json.dumps(args | extra))
        assert load_checkpoint(folder).encoder().load_report.ignored == ()


def bomb(depth: int) -> bytes:
    """Pickle of a tuple that holds itself twice, many times over, as the key of a dict: its hash takes forever."""
    grown = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(depth))
    return b"\x80\x02}" + b")" + grown + b"K\x01s."


PICKLES = {
    "long": b"\x80\x02" + b"N0" * 2**18 + b"N.",
    "many operations": b"\x80\x02](" + b"N" * 70_000 + b"e.",
    "tuples in tuples": bomb(60),
    "a key that is a tuple": b"\x80\x02})K\x01s.",
    "bytes by the terabyte": b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\0\0\0\0\0\x10\x85R.",
    "a tensor by its size": b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\0\0\0\0\x20\x85R.",
    "a sparse tensor": b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n)R.",
    "a tensor without storage": b"\x80\x02ctorch._utils\n_rebuild_meta_tensor_no_storage\n)R.",
    "code": b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.",
    "attributes": b"\x80\x02}}X\x08\0\0\0__dict__K\x01sb.",
    "a mark too few": b"\x80\x02}e.",
    "nothing": b"",
    "no end": b"\x80\x02}",
    "a memo that is not there": b"\x80\x02h\x07.",
    "text that is none": b"\x80\x02X\x02\0\0\0\xff\xff.",
    "an unknown operation": b"\x80\x02\xff.",
}


class TestArchive:
    @pytest.mark.parametrize("content", PICKLES.values(), ids=list(PICKLES))
    def test_pickles_that_no_state_dict_needs(self, folder, content):
        with_pickle(folder, content)
        assert "best_model.pt cannot be read as a weights file: it" in refusal(folder)

    @pytest.mark.parametrize(
        ("depth", "words"),
        [(4, "must hold a plain state dict, not tuple"), (5, "its data.pkl nests tuples deeper than weights do")],
    )
    def test_tuples_are_refused_by_their_depth_once_it_is_above_four(self, folder, depth, words):
        with_pickle(folder, b"\x80\x02)" + b"\x85" * (depth - 1) + b".")
        assert words in refusal(folder)

    def test_tuples_of_thousands_of_others_are_no_state_dict(self, folder):
        wide = b"(" + b"N" * 5_000 + b"tq\0"
        for _ in range(3):
            wide += b"(" + b"h\0" * 5_000 + b"tq\0"
        with_pickle(folder, b"\x80\x02" + wide + b".")
        assert "must hold a plain state dict, not tuple" in refusal(folder)

    def test_deep_lists_are_no_tensors(self, folder):
        with_pickle(folder, b"\x80\x02}X\x01\0\0\0a" + b"]" * 20_000 + b"a" * 19_999 + b"s.")
        assert "no tensor: a" in refusal(folder)

    def test_a_compressed_archive_is_refused_before_it_is_unpacked(self, folder):
        path = as_official(folder, state_of(folder))
        records = records_of(path) | {"best_model/data/0": bytes(2**26)}
        write_records(path, records, zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 2**20
        assert "is compressed, which torch.save never does" in refusal(folder)

    def test_records_longer_than_the_file_are_refused(self, folder):
        path = as_official(folder, state_of(folder))
        content = bytearray(path.read_bytes())
        entry = content.find(b"PK\x01\x02", content.find(b"PK\x01\x02") + 1)
        content[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
        path.write_bytes(content)
        assert "longer than the file" in refusal(folder)

    @pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
    def test_a_record_that_stands_there_twice_is_refused(self, folder):
        path = as_official(folder, state_of(folder))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("best_model/data.pkl", records_of(path)["best_model/data.pkl"])
        assert "best_model.pt cannot be read" in refusal(folder)

    def test_a_directory_of_very_many_records_is_not_read(self, folder):
        path = as_official(folder, state_of(folder))
        write_records(path, records_of(path) | {f"best_model/{i}": b"" for i in range(10_001)})
        assert "it holds 10,0" in refusal(folder)

    @pytest.mark.parametrize("name", ["best_model.pt", "model.safetensors"])
    def test_gigabytes_are_not_read(self, folder, name):
        as_official(folder, state_of(folder))
        with (folder / name).open("ab") as file:
            file.truncate(2**33)
        words = refusal(folder)
        assert f"{name} has 8,589,934,592 bytes" in words
        assert "its file at most" in words

    @pytest.mark.parametrize("content", [b"", b"PK", pickle.dumps({"a": 1}), b"\x89HDF" + bytes(500), bytes(5_000)])
    def test_what_is_no_archive_says_how_to_write_one(self, folder, content):
        as_official(folder, {}).write_bytes(content)
        assert "save a state dict with torch.save" in refusal(folder)

    def test_a_tensor_that_repeats_one_number_is_refused(self, folder):
        as_official(folder, {"encoder.embedding.weight": torch.zeros(1).expand(10**9, 10**6)})
        assert "asks for a tensor of 1000000000x1000000 in 1 numbers" in refusal(folder)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: torch.zeros(3, 3).to_sparse(),
            lambda: torch.zeros(3, 3, device="meta"),
            lambda: torch.quantize_per_tensor(torch.zeros(3, 3), 0.1, 0, torch.qint8),
            lambda: torch.zeros(3, 3, dtype=torch.complex64),
        ],
        ids=["sparse", "meta", "quantised", "complex"],
    )
    @pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
    def test_other_kinds_of_tensors_are_refused(self, folder, make):
        as_official(folder, state_of(folder) | {"value_encoder.norm.bias": make()})
        assert "best_model.pt cannot be read as a weights file: its data.pkl names" in refusal(folder)

    def test_what_torch_writes_of_a_module_is_described_to_the_last_shape(self, tmp_path):
        module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        torch.save(module.state_dict(), tmp_path / "module.pt")
        expected = {name: Dense(tuple(tensor.shape)) for name, tensor in module.state_dict().items()}
        assert describe(tmp_path / "module.pt") == expected
        torch.save(dict(module.named_parameters()), tmp_path / "parameters.pt")
        parameters = {name: Dense(tuple(tensor.shape)) for name, tensor in module.named_parameters()}
        assert describe(tmp_path / "parameters.pt") == parameters

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_precisions_become_float32(self, folder, dtype):
        expected = state_of(folder)
        as_official(folder, {name: tensor.to(dtype) for name, tensor in expected.items()})
        loaded = load_checkpoint(folder).encoder().state_dict()
        name = f"{NORM}.weight"
        assert torch.equal(loaded[name], expected[name].to(dtype).float())

    def test_views_and_transposed_tensors_are_taken_as_they_are(self, folder):
        state = state_of(folder)
        name = "transformer_encoder.layers.0.linear1.weight"
        expected = state[name].clone()
        state[name] = expected.T.contiguous().T
        assert not state[name].is_contiguous()
        as_official(folder, state)
        assert torch.equal(load_checkpoint(folder).encoder().state_dict()[name], expected)


@pytest.fixture(scope="module")
def small_archive(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("archive") / "best_model.pt"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    return path.read_bytes()


@settings(max_examples=150, deadline=2_000)
@given(data=st.data())
def test_a_damaged_archive_is_described_or_refused(small_archive, tmp_path_factory, data):
    content = bytearray(small_archive)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    path.write_bytes(content)
    try:
        look_into(path)
    except CheckpointError as error:
        words = str(error)
    else:
        words = "damaged.pt is whole"
    assert "damaged.pt" in words


class TestSafetensors:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (struct.pack("<Q", 2**63) + b"{}", "header is said to have 9,223,372,036,854,775,808 bytes"),
            (struct.pack("<Q", 2**21) + b" " * 2**21, "header is said to have 2,097,152 bytes"),
            (struct.pack("<Q", 40) + b"{}", "header is said to have 40 bytes"),
            (b"\1", "cannot be read as a weights file"),
            (struct.pack("<Q", 22) + b'{"a": [], "a": [1, 2]}', "holds the key 'a' twice"),
            (struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
            (struct.pack("<Q", 4) + b"null", "must hold a JSON object"),
        ],
        ids=["huge", "long", "short", "cut", "twice", "deep", "null"],
    )
    def test_headers(self, folder, content, message):
        (folder / "model.safetensors").write_bytes(content)
        words = refusal(folder)
        assert "model.safetensors cannot be read as a weights file" in words
        assert message in words

    def test_many_names_are_not_all_listed(self, folder):
        save_file(state_of(folder) | {f"x{i}": torch.zeros(1) for i in range(3_000)}, folder / "model.safetensors")
        assert "and 2,980 more" in refusal(folder)

    def test_a_name_of_thousands_of_letters_is_cut(self, folder):
        save_file(state_of(folder) | {"x\n" * 5_000: torch.zeros(1)}, folder / "model.safetensors")
        assert "unexpected: x x x" in refusal(folder)


HUGE, ZERO = (lambda t: t * 0 + 1e38), (lambda t: t * 0)


class TestStates:
    """Finite weights whose states are useless are refused wherever they are first used."""

    @pytest.fixture
    def damaged(self, folder) -> Iterator[object]:
        def damage(**changes: object) -> str:
            state = state_of(folder)
            for name, change in changes.items():
                key = f"{NORM}.{name}"
                state[key] = change(state[key])  # type: ignore[operator]
            save_file(state, folder / "model.safetensors")
            return str(folder)

        return damage

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"weight": HUGE, "bias": HUGE}, "a state that is not finite or zero"),
            ({"weight": ZERO, "bias": ZERO}, "a state that is not finite or zero"),
            ({"weight": ZERO, "bias": lambda t: t * 0 + 1}, "the same state"),
        ],
        ids=["huge", "zero", "constant"],
    )
    @pytest.mark.parametrize("kind", [FrozenProbe, HeadTuning])
    def test_before_any_training(self, damaged, pbmc, cut, kind, changes, message):
        checkpoint = damaged(**changes)
        with pytest.raises(CheckpointError, match=message) as caught:
            kind(checkpoint=checkpoint).ensure_applicable(pbmc, cut)
        assert checkpoint in str(caught.value)

    def test_by_encode_itself(self, damaged, pbmc):
        opened = load_checkpoint(damaged(weight=ZERO, bias=ZERO))
        tokens = tokenize_cells(pbmc, np.arange(3), pbmc.genes, opened)
        with pytest.raises(CheckpointError, match="gives 3 of 3 cells"):
            encode(opened.encoder(), tokens)

    def test_equal_cells_may_have_equal_states(self, small_checkpoint, pbmc):
        opened = load_checkpoint(small_checkpoint)
        tokens = tokenize_cells(pbmc, np.array([0]), pbmc.genes, opened).take(np.array([0, 0, 0]))
        states = encode(opened.encoder(), tokens)
        assert np.ptp(states, axis=0).max() < 1e-6

    def test_weights_too_large_for_float32_are_not_finite(self, folder):
        state = {name: tensor.double() for name, tensor in state_of(folder).items()}
        state[f"{NORM}.bias"][0] = 1e300
        save_file(state, folder / "model.safetensors")
        assert f"not finite numbers: {NORM}.bias" in refusal(folder)


class TestOtherLayouts:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"nhead": 8, "vocab_size": 60697, "pad_token_id": 60694}, "layout of tdc/scGPT.*download whole-human"),
            ({"model_type": "bert", "vocab_size": 25426}, "layout of Geneformer.*probe_obsm"),
            ({"model_type": "gpt2"}, "layout of the transformers library .model_type 'gpt2'."),
            ({}, "layout of the transformers library, and not"),
        ],
    )
    def test_are_refused_by_name(self, tmp_path, config, message):
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(CheckpointError, match=rf"lacks args\.json, vocab\.json\. This is .*{message}"):
            load_checkpoint(tmp_path)

    def test_weights_of_another_kind_are_named(self, folder):
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        assert "pytorch_model.bin is of another layout" in refusal(folder)


@pytest.mark.parametrize("name", ["x" * 5_000, "a\0b", "\ud800", "", "a\nb"])
def test_a_name_that_is_no_folder_is_unknown(name):
    with pytest.raises(CheckpointError, match="unknown checkpoint") as caught:
        load_checkpoint(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
