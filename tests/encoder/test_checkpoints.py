"""Checkpoints load to the last tensor, or fail with the name of what is wrong."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from frostline.encoder.catalogue import CHECKPOINTS, Pin, cache_folder
from frostline.encoder.checkpoints import load_checkpoint, official_state, save_checkpoint, spec_of
from frostline.errors import CheckpointError

QKV = "transformer_encoder.layers.1.self_attn.Wqkv"
LINEAR = "transformer_encoder.layers.0.linear1.weight"


@pytest.fixture
def folder(small_checkpoint, tmp_path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(small_checkpoint, tmp_path / "copy"))


def load(folder: Path):
    return load_checkpoint(folder).encoder()


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def edit_json(path: Path, **changes) -> None:
    content = json.loads(path.read_text())
    for key, value in changes.items():
        if value is ...:
            del content[key]
        else:
            content[key] = value
    path.write_text(json.dumps(content))


def edit_weights(folder: Path, change) -> None:
    state = {name: tensor.clone() for name, tensor in load_file(weights(folder)).items()}
    change(state)
    save_file(state, weights(folder))


def as_pickle(folder: Path, content: object) -> None:
    """Write weights as the official best_model.pt, in the place of the safetensors."""
    weights(folder).unlink()
    torch.save(content, folder / "best_model.pt")


def truncate(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


class TestFiles:
    @pytest.mark.parametrize("name", ["args.json", "vocab.json"])
    def test_a_missing_file_is_named(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(CheckpointError, match=rf"lacks {name}"):
            load(folder)

    def test_missing_weights_are_named(self, folder):
        weights(folder).unlink()
        with pytest.raises(CheckpointError, match=r"holds no weights .*model\.safetensors or best_model\.pt"):
            load(folder)

    @pytest.mark.parametrize("name", ["args.json", "vocab.json"])
    @pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
    def test_truncated_json_is_named(self, folder, name, share):
        truncate(folder / name, share)
        with pytest.raises(CheckpointError, match=rf"{name} cannot be read as JSON"):
            load(folder)

    @pytest.mark.parametrize("name", ["args.json", "vocab.json"])
    @pytest.mark.parametrize("content", ["[1, 2]", "3", "null", '"text"'])
    def test_json_that_is_no_object_is_named(self, folder, name, content):
        (folder / name).write_text(content)
        with pytest.raises(CheckpointError, match=rf"{name} must hold a JSON object"):
            load(folder)

    @pytest.mark.parametrize("name", ["args.json", "vocab.json"])
    def test_bytes_that_are_no_text_are_named(self, folder, name):
        (folder / name).write_bytes(b"\xff\xfe\x00\x01")
        with pytest.raises(CheckpointError, match=rf"{name} cannot be read as JSON"):
            load(folder)

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9999])
    @pytest.mark.parametrize("kind", ["model.safetensors", "best_model.pt"])
    def test_truncated_weights_are_named(self, folder, kind, share):
        if kind == "best_model.pt":
            as_pickle(folder, load_file(weights(folder)))
        truncate(folder / kind, share)
        with pytest.raises(CheckpointError, match=rf"{kind} cannot be read as a weights file"):
            load(folder)

    def test_an_unknown_name_lists_the_known_ones(self):
        with pytest.raises(CheckpointError, match=r"unknown checkpoint 'whole-mouse'.*known: .*mini.*folder"):
            load_checkpoint("whole-mouse")
        assert "mini" in CHECKPOINTS


class TestPickles:
    def test_code_in_the_weights_file_is_refused_and_not_run(self, folder, tmp_path):
        class Planted:
            def __reduce__(self):
                return Path.touch, (tmp_path / "it ran",)

        weights(folder).unlink()
        (folder / "best_model.pt").write_bytes(pickle.dumps(Planted()))
        with pytest.raises(CheckpointError, match=r"best_model\.pt cannot be read"):
            load(folder)
        torch.save({"encoder.embedding.weight": Planted()}, folder / "best_model.pt")
        with pytest.raises(CheckpointError, match=r"best_model\.pt cannot be read"):
            load(folder)
        assert not (tmp_path / "it ran").exists()

    def test_a_whole_pickled_model_is_refused(self, folder):
        as_pickle(folder, torch.nn.Linear(2, 2))
        with pytest.raises(CheckpointError, match=r"best_model\.pt cannot be read"):
            load(folder)

    def test_a_list_of_tensors_is_no_state_dict(self, folder):
        as_pickle(folder, list(load_file(weights(folder)).values()))
        with pytest.raises(CheckpointError, match=r"best_model\.pt must hold a plain state dict.* not list"):
            load(folder)

    def test_a_state_dict_inside_another_dict_is_refused_and_its_entries_are_named(self, folder):
        as_pickle(folder, {"model": load_file(weights(folder)), "epoch": 6})
        with pytest.raises(CheckpointError, match=r"best_model\.pt.* model, epoch"):
            load(folder)

    @pytest.mark.parametrize("value", [[1.0, 2.0], 3, "text", None])
    @pytest.mark.parametrize("name", [LINEAR, f"{QKV}.weight"])
    def test_an_entry_that_is_no_tensor_is_named(self, folder, name, value):
        as_pickle(folder, {**load_file(weights(folder)), name: value})
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            load(folder)

    def test_a_name_that_is_no_text_is_named(self, folder):
        as_pickle(folder, {**load_file(weights(folder)), 7: torch.zeros(2)})
        with pytest.raises(CheckpointError, match="7"):
            load(folder)

    def test_the_official_kind_of_file_gives_the_same_weights(self, folder, small_checkpoint):
        as_pickle(folder, load_file(weights(folder)))
        expected = load(small_checkpoint).state_dict()
        for name, tensor in load(folder).state_dict().items():
            assert torch.equal(tensor, expected[name]), name


class TestVocabulary:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"CD3D": 9_999}, r"ids must be 0\.\.\d+, each exactly once"),
            ({"CD3D": -1}, "each exactly once"),
            ({"CD3D": 0}, "each exactly once"),
            ({"CD3D": ...}, "each exactly once"),
            ({"CD3D": 1.0}, "every id must be an integer"),
            ({"CD3D": True}, "every id must be an integer"),
            ({"CD3D": "5"}, "every id must be an integer"),
            ({"CD3D": None}, "every id must be an integer"),
            ({"CD3D": [5]}, "every id must be an integer"),
        ],
    )
    def test_ids_that_are_no_permutation_are_refused(self, folder, change, message):
        edit_json(folder / "vocab.json", **change)
        with pytest.raises(CheckpointError, match=rf"vocab\.json.*{message}"):
            load(folder)

    @pytest.mark.parametrize("token", ["<pad>", "<cls>", "<eoc>"])
    def test_a_missing_special_token_is_named(self, folder, token):
        content = json.loads((folder / "vocab.json").read_text())
        content["GENE"] = content.pop(token)
        (folder / "vocab.json").write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=rf"vocab\.json lacks the special token\(s\) {token}"):
            load(folder)

    def test_a_vocabulary_longer_than_the_embedding_is_refused(self, folder):
        content = json.loads((folder / "vocab.json").read_text())
        edit_json(folder / "vocab.json", NEW=len(content))
        with pytest.raises(CheckpointError, match=rf"mis-shaped: encoder\.embedding\.weight is \({len(content)}, 32\)"):
            load(folder)

    def test_the_order_of_entries_does_not_matter(self, folder, small_checkpoint):
        content = json.loads((folder / "vocab.json").read_text())
        (folder / "vocab.json").write_text(json.dumps(dict(sorted(content.items()))))
        one, other = load_checkpoint(folder), load_checkpoint(small_checkpoint)
        assert (one.config, dict(one.vocabulary)) == (other.config, dict(other.vocabulary))


class TestArguments:
    @pytest.mark.parametrize("key", ["embsize", "nheads", "d_hid", "nlayers", "dropout", "pad_token", "pad_value"])
    def test_a_missing_key_is_named(self, folder, key):
        edit_json(folder / "args.json", **{key: ...})
        with pytest.raises(CheckpointError, match=rf"args\.json lacks {key}"):
            load(folder)

    @pytest.mark.parametrize("key", ["embsize", "nheads", "d_hid", "nlayers"])
    @pytest.mark.parametrize("value", ["many", None, [32], {"a": 1}, 2.5, True, 0, -2, 1e400], ids=repr)
    def test_a_dimension_that_is_no_positive_integer_is_named(self, folder, key, value):
        edit_json(folder / "args.json", **{key: value})
        with pytest.raises(CheckpointError, match=rf"args\.json.*{key}"):
            load(folder)

    @pytest.mark.parametrize("value", ["high", None, [0.1], -0.1, 1.5, float("nan")], ids=repr)
    def test_a_dropout_that_is_no_share_is_named(self, folder, value):
        edit_json(folder / "args.json", dropout=value)
        with pytest.raises(CheckpointError, match=r"args\.json.*dropout"):
            load(folder)

    @pytest.mark.parametrize("value", ["low", None, [-2], float("nan")], ids=repr)
    def test_a_pad_value_that_is_no_number_is_named(self, folder, value):
        edit_json(folder / "args.json", pad_value=value)
        with pytest.raises(CheckpointError, match=r"args\.json.*pad_value"):
            load(folder)

    @pytest.mark.parametrize("value", ["<nothing>", None, 0, ["<pad>"]], ids=repr)
    def test_a_pad_token_outside_the_vocabulary_is_named(self, folder, value):
        edit_json(folder / "args.json", pad_token=value)
        with pytest.raises(CheckpointError, match=r"args\.json.*pad_token"):
            load(folder)

    def test_a_width_that_the_heads_do_not_divide_is_refused(self, folder):
        edit_json(folder / "args.json", nheads=5)
        with pytest.raises(CheckpointError, match=r"args\.json.*embsize 32 is not divisible by nheads 5"):
            load(folder)

    def test_another_value_encoding_is_refused(self, folder):
        edit_json(folder / "args.json", input_emb_style="category")
        with pytest.raises(CheckpointError, match=r"input_emb_style 'category'"):
            load(folder)

    @pytest.mark.parametrize(("key", "value"), [("embsize", 64), ("d_hid", 32), ("nlayers", 1), ("nlayers", 3)])
    def test_dimensions_that_the_weights_contradict_are_refused(self, folder, key, value):
        edit_json(folder / "args.json", **{key: value})
        with pytest.raises(CheckpointError, match="the weights do not match the encoder"):
            load(folder)

    def test_everything_is_read_and_nothing_assumed(self, folder):
        edit_json(folder / "args.json", nheads=8, dropout=0.35, pad_value=-3, pad_token="<eoc>")
        config = load_checkpoint(folder).config
        assert (config.n_heads, config.dropout, config.pad_value) == (8, 0.35, -3.0)
        assert config.pad_id == load_checkpoint(folder).vocabulary["<eoc>"]


class TestTensors:
    @pytest.mark.parametrize("name", [LINEAR, f"{QKV}.weight", f"{QKV}.bias", "value_encoder.norm.bias"])
    def test_a_missing_tensor_is_named(self, folder, name):
        edit_weights(folder, lambda state: state.pop(name))
        wanted = name.replace("Wqkv", "q_proj").replace(".", r"\.")
        with pytest.raises(CheckpointError, match=rf"missing: .*{wanted}"):
            load(folder)

    @pytest.mark.parametrize("name", ["bn.weight", "encoder.extra", "transformer_encoder.layers.2.linear1.weight"])
    def test_an_extra_tensor_is_named(self, folder, name):
        edit_weights(folder, lambda state: state.update({name: torch.zeros(32)}))
        with pytest.raises(CheckpointError, match=rf"unexpected: {name}"):
            load(folder)

    @pytest.mark.parametrize(
        ("name", "shape", "message"),
        [
            (LINEAR, (48, 31), r"linear1\.weight is \(48, 31\), not \(48, 32\)"),
            (LINEAR, (32, 48), r"linear1\.weight is \(32, 48\), not \(48, 32\)"),
            (f"{QKV}.weight", (96, 31), r"layers\.1\.self_attn\.q_proj\.weight is \(32, 31\), not \(32, 32\)"),
            (f"{QKV}.weight", (93, 32), r"layers\.1\.self_attn\.q_proj\.weight is \(31, 32\), not \(32, 32\)"),
            (f"{QKV}.weight", (97, 32), r"missing: .*layers\.1\.self_attn\.q_proj\.weight.*unexpected: .*Wqkv\.weight"),
            (f"{QKV}.bias", (96, 1), r"layers\.1\.self_attn\.q_proj\.bias is \(32, 1\), not \(32,\)"),
            (f"{QKV}.bias", (), r"layers\.1\.self_attn\.Wqkv\.bias"),
            ("encoder.enc_norm.bias", (), r"enc_norm\.bias is \(\), not \(32,\)"),
            ("encoder.embedding.weight", (10, 32), r"embedding\.weight is \(10, 32\)"),
        ],
    )
    def test_a_mis_shaped_tensor_is_named_with_both_shapes(self, folder, name, shape, message):
        edit_weights(folder, lambda state: state.update({name: torch.zeros(shape)}))
        with pytest.raises(CheckpointError, match=message):
            load(folder)

    @pytest.mark.parametrize("name", ["self_attn.in_proj_weight", "self_attn._impl.Wqkv.weight"])
    def test_a_tensor_that_stands_there_under_two_names_is_refused(self, folder, name):
        twin = QKV.replace("self_attn.Wqkv", name)
        edit_weights(folder, lambda state: state.update({twin: state[f"{QKV}.weight"].clone()}))
        with pytest.raises(CheckpointError, match=r"unexpected: .*layers\.1\.self_attn"):
            load(folder)

    def test_all_that_is_wrong_is_said_at_once(self, folder):
        def damage(state):
            state.pop("value_encoder.norm.bias")
            state[LINEAR] = torch.zeros(3, 3)
            state["bn.weight"] = torch.zeros(32)

        edit_weights(folder, damage)
        with pytest.raises(CheckpointError) as caught:
            load(folder)
        for problem in (
            "missing: value_encoder.norm.bias",
            "unexpected: bn.weight",
            "mis-shaped: transformer_encoder.layers.0.linear1.weight is (3, 3), not (48, 32)",
        ):
            assert problem in str(caught.value)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite_are_named(self, folder, value):
        def damage(state):
            state[LINEAR][3, 4] = value

        edit_weights(folder, damage)
        with pytest.raises(CheckpointError, match=r"layers\.0\.linear1\.weight"):
            load(folder)

    def test_weights_that_are_no_floating_point_numbers_are_named(self, folder):
        edit_weights(folder, lambda state: state.update({LINEAR: torch.ones(48, 32, dtype=torch.int64)}))
        with pytest.raises(CheckpointError, match=r"layers\.0\.linear1\.weight"):
            load(folder)

    def test_pretraining_and_classification_heads_are_named_as_ignored(self, folder):
        extra = (
            "decoder.fc.0.weight",
            "mvc_decoder.gene2query.weight",
            "flag_encoder.weight",
            "cls_decoder.out_layer.bias",
        )
        edit_weights(folder, lambda state: state.update({name: torch.zeros(4) for name in extra}))
        report = load(folder).load_report
        assert set(report.ignored) == set(extra)
        assert all(name in str(report) for name in extra)

    def test_the_released_tensors_that_are_not_the_encoders_are_ignored(self, golden):
        report = load(golden / "checkpoint").load_report
        prefixes = {name.split(".")[0] for name in report.ignored}
        assert prefixes == {"decoder", "mvc_decoder", "flag_encoder"}
        assert len(report.matched) + len(report.ignored) == 67


class TestRoundTrip:
    def test_what_is_saved_is_loaded_bit_for_bit(self, small_checkpoint, tmp_path):
        encoder, checkpoint = load(small_checkpoint), load_checkpoint(small_checkpoint)
        save_checkpoint(tmp_path / "new", encoder, checkpoint.vocabulary, extra={"corpus": "none"})
        again = load_checkpoint(tmp_path / "new")
        assert (again.config, dict(again.vocabulary)) == (checkpoint.config, dict(checkpoint.vocabulary))
        assert again.weights_sha256 == checkpoint.weights_sha256
        for name, tensor in again.encoder().state_dict().items():
            assert torch.equal(tensor, encoder.state_dict()[name]), name
        stated = json.loads((tmp_path / "new" / "args.json").read_text())
        assert (stated["corpus"], stated["n_bins"], stated["max_seq_len"]) == ("none", 51, 1_200)

    def test_an_official_checkpoint_survives_saving(self, golden, tmp_path):
        source = load_checkpoint(golden / "checkpoint")
        save_checkpoint(tmp_path, source.encoder(), source.vocabulary)
        again = load_checkpoint(tmp_path)
        assert (again.config, dict(again.vocabulary)) == (source.config, dict(source.vocabulary))
        official = torch.load(golden / "checkpoint" / "best_model.pt", weights_only=True)
        for name, tensor in load_file(tmp_path / "model.safetensors").items():
            assert torch.equal(tensor, official[name]), name

    def test_saved_names_are_those_of_the_released_files(self, golden):
        encoder = load(golden / "checkpoint")
        official = torch.load(golden / "checkpoint" / "best_model.pt", weights_only=True)
        assert set(official_state(encoder)) == set(official) - set(encoder.load_report.ignored)

    def test_changed_weights_change_the_recorded_hash(self, folder, small_checkpoint):
        def change(state):
            state[LINEAR][0, 0] += 1

        edit_weights(folder, change)
        assert load_checkpoint(folder).weights_sha256 != load_checkpoint(small_checkpoint).weights_sha256

    def test_an_encoder_is_ready_for_inference(self, small_checkpoint):
        assert not any(module.training for module in load(small_checkpoint).modules())


def test_a_folder_of_known_weights_is_the_checkpoint(folder, small_checkpoint, monkeypatch, tmp_path):
    """By what is publicly known of them, or was recorded at their download."""
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    assert spec_of(folder) is None
    digest = load_checkpoint(folder).weights_sha256
    with monkeypatch.context() as patch:
        pins = {"best_model.pt": Pin(digest, seen="public")}
        patch.setitem(CHECKPOINTS, "heart", dataclasses.replace(CHECKPOINTS["heart"], pins=pins))
        assert spec_of(folder) == CHECKPOINTS["heart"]
    (cache_folder() / "lung").mkdir(parents=True)
    (cache_folder() / "lung" / "sha256.json").write_text(json.dumps({"model.safetensors": digest}))
    assert spec_of(folder).name == "lung"
    assert spec_of("brain").name == "brain"


def test_each_kind_has_a_folder_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "checkpoints"
    assert cache_folder("runs") == tmp_path / "runs"
    monkeypatch.setenv("FROSTLINE_CACHE", "")  # as if it were not set
    assert cache_folder("runs").parent == cache_folder().parent
    assert cache_folder("runs").is_absolute()


def test_a_path_in_the_home_folder(small_checkpoint, monkeypatch):
    monkeypatch.setenv("HOME", str(small_checkpoint.parent))
    assert load(f"~/{small_checkpoint.name}").config == load(small_checkpoint).config
    monkeypatch.setenv("FROSTLINE_CACHE", "~/kept")
    assert cache_folder() == small_checkpoint.parent / "kept" / "checkpoints"
