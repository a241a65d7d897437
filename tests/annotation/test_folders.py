"""Models on disk: an exact round trip, and the refusal of everything that is not what was kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest
from kept_models import model_of
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from frostline import cli
from frostline.annotation.adapting import keep
from frostline.annotation.facts import content_sha256
from frostline.annotation.folders import CALIBRATION, REFERENCE, load_model
from frostline.cells.datasets import load_dataset
from frostline.cells.splits import split
from frostline.comparison.comparisons import compare
from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import CheckpointError, ModelError
from frostline.evaluation.evaluations import evaluate
from frostline.profiles import get_profile
from frostline.strategies import STRATEGIES


@pytest.fixture(scope="module")
def saved(kept, tmp_path_factory):
    return kept.save(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that may be altered."""
    return shutil.copytree(saved, tmp_path / "copy")


@pytest.fixture(scope="module")
def make(three_kinds, tiny_profile, small_checkpoint, instant_umap_throughout):
    """Keep a model of any strategy, on an encoder with random weights."""

    def make(name, checkpoint=small_checkpoint, **how):
        strategy = STRATEGIES[name].from_profile(tiny_profile, str(checkpoint))
        cut = split(three_kinds)
        comparison = compare([evaluate(strategy, three_kinds, cut)])
        return keep(comparison, three_kinds, checkpoint=str(checkpoint), **how)

    return make


def resealed(folder, change=None):
    """Whoever alters a file may write its new hash, too."""
    content = json.loads((folder / "model.json").read_text())
    for name in content["files"]:
        path = folder / name
        content["files"][name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    if change:
        change(content)
    content["content_sha256"] = content_sha256(content)
    (folder / "model.json").write_text(json.dumps(content))


class TestRoundTrip:
    def test_a_reloaded_model_is_the_same_to_the_last_bit(self, kept, saved, three_kinds, fresh):
        again, cells = load_model(saved), np.arange(len(three_kinds))
        assert (again.strategy, again.classes, again.genes, again.ensembl) == (
            kept.strategy, kept.classes, kept.genes, kept.ensembl,
        )  # fmt: skip
        assert again.card == json.loads(json.dumps(dict(kept.card)))
        expected, found = (m.strategy.outcome(fresh(three_kinds), cells) for m in (kept, again))
        for name in ("features", "scores", "probabilities"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        ours, theirs = kept.calibration, again.calibration
        assert (ours.temperature, ours.alpha, ours.certificate) == (
            theirs.temperature, theirs.alpha, theirs.certificate,
        )  # fmt: skip
        for name in ("energies", "distances"):
            np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name))
        np.testing.assert_array_equal(
            theirs.centroids.distances(found.features), ours.centroids.distances(expected.features)
        )
        threshold = ours.certificate.threshold
        assert theirs.hierarchy.answers(found.probabilities, threshold) == ours.hierarchy.answers(
            expected.probabilities, threshold
        )
        assert (again.reference.values != kept.reference.values).nnz == 0
        np.testing.assert_array_equal(again.reference.labels, kept.reference.labels)
        assert again.reference.groups is None
        assert again.reference.counted == kept.reference.counted
        assert again.cross_fitted is None

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["frozen_probe", "head", "lora"])
    def test_a_model_on_an_encoder_too_with_nothing_but_what_was_trained(
        self, make, three_kinds, fresh, tmp_path, name
    ):
        model = make(name, reference_cells=0)
        folder = model.save(tmp_path / "model")
        again = load_model(folder)
        found, expected = (m.strategy.predict_proba(fresh(three_kinds), np.arange(40)) for m in (again, model))
        np.testing.assert_array_equal(found, expected)
        encoder = sum(p.numel() for p in load_checkpoint(model.strategy.checkpoint).encoder().parameters())
        weights = [path.stat().st_size for path in folder.glob("*.safetensors") if path.name != CALIBRATION]
        assert sum(weights) < encoder  # an eighth of its bytes is more than was trained
        adapter = {"adapter_config.json", "adapter_model.safetensors"}
        assert adapter & {path.name for path in folder.iterdir()} == (adapter if name == "lora" else set())

    def test_a_model_is_replaced_by_another_one(self, kept, folder):
        dataclasses.replace(kept, reference=None).save(folder)
        assert load_model(folder).reference is None
        assert REFERENCE not in {path.name for path in folder.iterdir()}
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["pbmc68k-reduced", "pancreas"])
    def test_a_folder_takes_less_than_three_megabytes(self, name, tmp_path, monkeypatch):
        """Of the small data sets, on `mini`: with its cells, of which one has counts of 12,474 genes.

        So many numbers are kept whatever the states of the cells are, and in however few parts the cells were left out.
        """

        def drawn(encoder, tokens, **_):
            return np.random.default_rng(0).normal(size=(len(tokens), encoder.config.d_model)).astype(np.float32)

        monkeypatch.setattr("frostline.encoder.frozen.encode", drawn)
        monkeypatch.setattr("frostline.annotation.crossfitting.FOLDS", 3)
        model = model_of(load_dataset(name), STRATEGIES["frozen_probe"].from_profile(get_profile("quickstart"), "mini"))
        folder = model.save(tmp_path / "model")
        assert sum(path.stat().st_size for path in folder.iterdir()) < 3e6
        assert len(model.reference.labels) == (660 if name == "pbmc68k-reduced" else 175)
        assert load_model(folder).strategy.genes_ == model.strategy.genes_


class TestRefusals:
    @pytest.mark.parametrize("name", ["model.json", "weights.safetensors", CALIBRATION, REFERENCE])
    def test_one_altered_byte_is_named(self, folder, name):
        path = folder / name
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(bytes(content))
        with pytest.raises(ModelError, match=rf"{name}.*(altered|cannot be read|damaged)"):
            load_model(folder)

    @pytest.mark.parametrize("name", ["model.json", "weights.safetensors", CALIBRATION, REFERENCE])
    def test_a_missing_file_is_named(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(ModelError, match=rf"{name}.*(is missing|lists)|lacks {name}"):
            load_model(folder)

    def test_a_link_is_no_file_of_the_model(self, folder, tmp_path):
        shutil.move(folder / REFERENCE, tmp_path / "elsewhere")
        (folder / REFERENCE).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ModelError, match=rf"{REFERENCE} in .* is no file of its own, but a link.*cp --dereference"):
            load_model(folder)

    def test_a_renamed_class_is_refused(self, folder):
        text = (folder / "model.json").read_text()
        name = json.loads(text)["strategy"]["classes"][0]
        (folder / "model.json").write_text(text.replace(json.dumps(name), '"Something else"'))
        with pytest.raises(ModelError, match=r"model.json has been altered"):
            load_model(folder)
        resealed(folder)
        with pytest.raises(ModelError, match=rf"{CALIBRATION} is of other classes than model.json says: .*Something"):
            load_model(folder)

    def test_weights_that_are_no_numbers_are_refused_whatever_their_hash(self, folder):
        arrays = load_file(folder / "weights.safetensors")
        arrays["coefficients"][0, 0] = np.nan
        save_file(arrays, folder / "weights.safetensors")
        with pytest.raises(ModelError, match=r"weights.safetensors has been altered"):
            load_model(folder)
        resealed(folder)
        with pytest.raises(ModelError, match=r"weights.safetensors holds numbers that are not finite, in coefficients"):
            load_model(folder)

    def test_the_calibration_of_another_model_is_refused_whatever_its_hash(self, make, folder, tmp_path):
        other = make("pca_knn", reference_cells=0).save(tmp_path / "other")
        shutil.copy(other / CALIBRATION, folder / CALIBRATION)
        with pytest.raises(ModelError, match=rf"{CALIBRATION} has been altered"):
            load_model(folder)
        resealed(folder)
        with pytest.raises(ModelError, match=rf"{CALIBRATION} is the calibration of other weights"):
            load_model(folder)

    def test_an_array_of_objects_is_never_unpickled(self, folder):
        np.savez_compressed(folder / REFERENCE, data=np.array([Bomb()], dtype=object), allow_pickle=True)
        resealed(folder)
        with pytest.raises(ModelError, match=rf"{REFERENCE} holds no reference cells that can be read: .*allow_pickle"):
            load_model(folder)
        (folder / "weights.safetensors").write_bytes(pickle.dumps(Bomb()))
        resealed(folder)
        with pytest.raises(ModelError):
            load_model(folder)

    def test_a_newer_format_asks_for_a_newer_frostline(self, folder):
        resealed(folder, lambda content: content.update(schema_version=2, something_new=1))
        with pytest.raises(ModelError, match=r"newer version of frostline \(its format is 2.*upgrade frostline"):
            load_model(folder)

    def test_another_programs_folder_is_named(self, tmp_path):
        (tmp_path / "model.json").write_text('{"model_type": "bert"}')
        with pytest.raises(ModelError, match=r"model.json is of another program"):
            load_model(tmp_path)
        (tmp_path / "model.json").unlink()
        (tmp_path / "config.json").touch()
        with pytest.raises(ModelError, match=r"no folder of a model: model.json is missing \(it holds config.json\)"):
            load_model(tmp_path)
        with pytest.raises(ModelError, match=r"it is a file"):
            load_model(tmp_path / "config.json")

    def test_an_entry_that_is_missing_or_wrong_is_named(self, folder):
        resealed(folder, lambda content: content.pop("genes"))
        with pytest.raises(ModelError, match=r"model.json is damaged: lacks genes"):
            load_model(folder)
        resealed(folder, lambda content: content.update(genes=3))
        with pytest.raises(ModelError, match=r"genes: .*list"):
            load_model(folder)

    @pytest.mark.parametrize("name", ["dataset", "fit", "metrics", "verdict", "checkpoint", "notes", "kept"])
    def test_a_card_without_what_is_read_of_it_is_refused_with_the_model_not_with_the_cells(self, folder, name):
        resealed(folder, lambda content: content["card"].pop(name))
        with pytest.raises(ModelError, match=rf"model.json is damaged: lacks card.{name}; copy the folder again"):
            load_model(folder)

    def test_a_file_above_the_folder_is_not_read(self, folder):
        resealed(folder, lambda content: content["files"].update({"../secret": content["files"][REFERENCE]}))
        with pytest.raises(ModelError, match=r"model.json is damaged"):
            load_model(folder)

    def test_files_that_do_not_fit_together_are_refused(self, folder):
        arrays = load_file(folder / "weights.safetensors")
        del arrays["intercepts"]
        save_file(arrays, folder / "weights.safetensors")
        resealed(folder)
        with pytest.raises(ModelError, match=r"the files of .*copy do not fit together \(KeyError: 'intercepts'\)"):
            load_model(folder)

    def test_a_hyper_parameter_out_of_bounds_is_refused(self, folder):
        resealed(folder, lambda content: content["strategy"]["parameters"].update(n_hvg=0))
        with pytest.raises(ModelError, match=r"do not fit together .*n_hvg is 0, and must be"):
            load_model(folder)


class Bomb:
    """Would be noticed if it were unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was read",))


class TestCheckpoints:
    @pytest.mark.slow
    def test_other_weights_are_refused_and_a_moved_checkpoint_is_found_where_it_is_said_to_be(
        self, make, small_checkpoint, three_kinds, fresh, tmp_path
    ):
        here = shutil.copytree(small_checkpoint, tmp_path / "checkpoint")
        model = make("frozen_probe", here, reference_cells=0)
        folder = model.save(tmp_path / "model")
        expected = model.strategy.predict_proba(fresh(three_kinds), np.arange(9))
        three_kinds.adata[:9].copy().write_h5ad(tmp_path / "in.h5ad")
        moved = shutil.move(here, tmp_path / "moved")
        with pytest.raises(CheckpointError, match=r"fitted on checkpoint 'checkpoint-.*say where it is"):
            load_model(folder)
        again = load_model(folder, checkpoint=moved)
        np.testing.assert_array_equal(again.strategy.predict_proba(fresh(three_kinds), np.arange(9)), expected)
        with pytest.raises(CheckpointError, match=r"'mini' holds other weights"):
            load_model(folder, checkpoint="mini")
        for output in ("out.h5ad", "out.zarr"):
            command = ["annotate", folder, tmp_path / "in.h5ad", "-o", tmp_path / output]
            refused = CliRunner().invoke(cli.app, list(map(str, command)))
            assert "for frostline annotate --checkpoint FOLDER" in str(refused.exception)
            done = CliRunner().invoke(cli.app, list(map(str, [*command, "--checkpoint", moved])))
            assert done.exit_code == 0, done.output

    def test_a_model_is_used_from_another_folder_and_on_a_machine_without_its_gpu(
        self, make, small_checkpoint, three_kinds, fresh, tmp_path, monkeypatch
    ):
        shutil.copytree(small_checkpoint, tmp_path / "checkpoint")
        monkeypatch.chdir(tmp_path)
        model = make("frozen_probe", "checkpoint", reference_cells=0)
        folder = model.save("model")
        expected = model.strategy.predict_proba(fresh(three_kinds), np.arange(9))
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        resealed(folder, lambda content: content["strategy"]["parameters"].update(device="cuda"))
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        again = load_model(folder)
        assert (again.strategy.checkpoint, again.strategy.device) == (str(tmp_path / "checkpoint"), "auto")
        np.testing.assert_array_equal(again.strategy.predict_proba(fresh(three_kinds), np.arange(9)), expected)
