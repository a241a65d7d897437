"""Pre-training on small synthetic sets: what it learns, how it resumes, what it refuses; and `mini`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import sparse

from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import Cancelled, DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.pretraining import runs
from frostline.pretraining.corpus import principal_components, read_corpus
from frostline.pretraining.recipes import Phase, PretrainSettings
from frostline.pretraining.runs import pretrain

pytestmark = pytest.mark.slow

N_GENES = 120
FIRST = Phase(steps=24, subset_sizes=(8, 16), batch_cells=16, n_components=8, learning_rate=3e-3, warmup=5)
SECOND = Phase(
    steps=16,
    subset_sizes=(32,),
    batch_cells=8,
    n_components=5,
    exponent=0.0,
    n_neighbors=4,
    learning_rate=1e-3,
    warmup=2,
)
SMALL = PretrainSettings(d_model=16, n_layers=2, n_heads=2, d_hid=32, dropout=0.1, phases=(FIRST, SECOND), mvc_genes=4)
STEPS = 40
FILES = ["MODEL_CARD.md", "args.json", "corpus_genes.csv", "history.csv", "model.safetensors", "vocab.json"]


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices only lose time to a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def counts(seed: int, n_cells: int = 80, first_gene: int = 0) -> anndata.AnnData:
    """Draw cells of four kinds, each kind with its own rates per gene."""
    rng = np.random.default_rng(seed)
    rates = np.random.default_rng(99).gamma(0.4, 1.0, (4, N_GENES))[:, first_gene:]
    values = rng.poisson(rates[rng.integers(0, 4, n_cells)]).astype(np.float32)
    values[:, -1] += 1  # no cell is empty
    adata = anndata.AnnData(sparse.csr_matrix(values))
    adata.var_names = [f"G{i:03d}" for i in range(first_gene, N_GENES)]
    return adata


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for seed, first_gene in ((0, 0), (1, 20)):
        counts(seed, first_gene=first_gene).write_h5ad(folder / f"set{seed}.h5ad")
    return [folder / "set0.h5ad", folder / "set1.h5ad"]


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = pretrain(corpus, folder, steps=STEPS, settings=SMALL)
    torch.set_num_threads(threads)
    return result


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def stop_after(steps: int) -> Monitor:
    asked = iter(range(10_000))
    return Monitor(cancelled=lambda: next(asked) >= steps)


def history_of(folder: Path) -> np.ndarray:
    return np.genfromtxt(folder / "history.csv", delimiter=",", names=True)


@pytest.mark.parametrize("phase", [FIRST, SECOND])
def test_the_loss_falls(corpus, tmp_path, phase):
    pretrain(corpus, tmp_path, settings=replace(SMALL, phases=(replace(phase, steps=60),)))
    history = history_of(tmp_path)
    for name in ("loss", "components", "mvc", "contrast"):
        assert history[name][-1] < history[name][0], name


def test_history_holds_the_mean_of_every_ten_steps_of_a_phase(finished):
    history = history_of(finished.folder)
    assert history["step"].tolist() == [10, 20, 24, 34, 40]
    assert history["phase"].tolist() == [1, 1, 1, 2, 2]


def test_states_differ_between_cells_before_the_first_step(corpus):
    pooled = read_corpus(corpus)
    torch.manual_seed(0)
    encoder = runs.build_encoder(pooled, SMALL, 0).eval()
    tokens = pooled.tokens(seed=0).take(np.arange(20))
    ids, values = runs.draw_subset(tokens, 16, 17, np.random.default_rng(0))
    with torch.inference_mode():
        states = encoder.cls_states(torch.from_numpy(ids), torch.from_numpy(values) / 10)
    spread = (states - states.mean(dim=0)).norm(dim=1).mean() / states.norm(dim=1).mean()
    assert spread > 0.2


def test_a_finished_folder_holds_the_checkpoint_and_nothing_else(finished, corpus):
    assert sorted(path.name for path in finished.folder.iterdir()) == FILES
    args = json.loads((finished.folder / "args.json").read_text())
    assert [file["cells"] for file in args["corpus"]] == [80, 80]
    assert [file["file"] for file in args["corpus"]] == [path.name for path in corpus]
    assert (args["steps"], args["seed"], args["n_bins"]) == (STEPS, 0, 51)
    assert args["final_losses"] == finished.losses
    card = (finished.folder / "MODEL_CARD.md").read_text()
    assert "demonstration" in card
    assert args["corpus"][0]["sha256"] in card
    assert str(corpus[0].parent) not in card + json.dumps(args)


def test_the_checkpoint_loads_strictly(finished):
    checkpoint = load_checkpoint(finished.folder)
    encoder = checkpoint.encoder()
    assert not encoder.load_report.ignored
    assert list(checkpoint.vocabulary)[:3] == ["<pad>", "<cls>", "<eoc>"]
    assert finished.n_genes == len(checkpoint.vocabulary) - 3 == encoder.config.n_tokens - 3


def test_same_seed_same_weights_other_seed_others(finished, corpus, tmp_path):
    progress = []
    monitor = Monitor(progress=lambda fraction, _: progress.append(fraction))
    again = pretrain(corpus, tmp_path / "again", steps=STEPS, settings=SMALL, monitor=monitor)
    other = pretrain(corpus, tmp_path / "other", steps=STEPS, settings=SMALL, seed=1)
    assert weights(again.folder) == weights(finished.folder)
    assert weights(other.folder) != weights(finished.folder)
    assert progress == [step / STEPS for step in range(STEPS)]


def test_the_global_random_stream_is_left_alone(corpus, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    pretrain(corpus, tmp_path, steps=2, settings=SMALL)
    assert torch.equal(torch.rand(1), expected)


def state_at_the_border(corpus, folder: Path) -> dict:
    with pytest.raises(Cancelled):
        pretrain(corpus, folder, settings=SMALL, monitor=stop_after(24))
    state = torch.load(folder / runs.STATE_FILE, weights_only=True)
    assert state["step"] == 24
    return state


def test_the_second_phase_goes_on_from_the_encoder_and_the_heads_of_the_first(corpus, tmp_path):
    """What the heads tell at the border is what they told, component by component, in the units of the new phase."""
    state = state_at_the_border(corpus, tmp_path / "both")
    run = runs._Run(read_corpus(corpus), 0, 24, replace(SMALL, phases=(FIRST,)))
    run.start(Path("nowhere"))
    while run.step < 24:
        run.advance()
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(state["model"][name], tensor), name
    assert not state["optimizer"]["state"]
    for name in ("gene2query.weight", "gene2query.bias", "w.weight"):
        assert torch.equal(state["heads"][name], run.told.heads.state_dict()[name])
    assert state["heads"]["w.weight"].any()

    pooled = run.corpus
    told = torch.randn(6, 16)  # <cls> states of six cells
    with torch.no_grad():
        before = run.told.heads["components"](told).numpy()
    after = (told @ state["heads"]["components.weight"].T + state["heads"]["components.bias"]).numpy()
    old = principal_components(pooled, 8, 0, exponent=0.25)
    new = principal_components(pooled, 5, 0, exponent=0.0, n_neighbors=4)
    assert after.shape == (6, 10)
    expected = before[:, :5] / old[:, :5].std(axis=0)
    for part in (slice(5), slice(5, 10)):  # the components, and their means over neighbours
        np.testing.assert_allclose(after[:, part] / new[:, part].std(axis=0), expected, rtol=1e-4, atol=1e-5)


def test_a_later_phase_may_tell_more_components_than_the_one_before(corpus):
    phases = (replace(SECOND, steps=1), replace(FIRST, steps=1))
    run = runs._Run(read_corpus(corpus), 0, 2, replace(SMALL, phases=phases))
    run.start(Path("nowhere"))
    run.advance()
    weight = run.told.heads["components"].weight
    assert weight.shape == (8, 16)
    assert torch.isfinite(weight).all()
    assert weight[5:].any()  # drawn, where the phase before has none


@pytest.mark.parametrize("name", ["mvc_weight", "contrast_weight"])
def test_an_objective_without_weight_changes_nothing_but_is_still_told(corpus, name):
    """The total is the weighted sum of the parts, by hand; InfoNCE and MVC are in the history all the same."""
    phase = replace(FIRST, mvc_weight=0.7, contrast_weight=0.2)
    for settings in (replace(SMALL, phases=(phase,)), replace(SMALL, phases=(replace(phase, **{name: 0.0}),))):
        run = runs._Run(read_corpus(corpus), 0, 3, settings)
        run.start(Path("nowhere"))
        run.advance()
        total, components, mvc, contrast = run.history[0]
        of = settings.phases[0]
        assert total == pytest.approx(components + of.mvc_weight * mvc + of.contrast_weight * contrast, rel=1e-5)
        assert mvc > 0
        assert contrast > 0


def test_the_objective_in_words_names_what_differs_between_phases():
    words = replace(SMALL, phases=(FIRST, replace(SECOND, contrast_weight=0.0))).objective
    assert words.startswith("mean squared error of 8 then 5 principal components")
    assert "means over 0 then 4 neighbours" in words
    assert "+ 0.5 x MVC, + 0.3 then 0 x InfoNCE" in words


def test_a_run_of_another_length_is_divided_in_proportion(corpus, tmp_path):
    done = pretrain(corpus, tmp_path, steps=10, settings=SMALL)
    history = history_of(done.folder)
    assert list(zip(history["step"], history["phase"], strict=True)) == [(6, 1), (10, 2)]


def test_a_run_too_short_for_a_phase_leaves_it_out(corpus, tmp_path, monkeypatch):
    """Even when it has to go on from the state of its only step."""
    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", lambda *_args, **_kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(corpus, tmp_path, steps=1, settings=SMALL)
    pretrain(corpus, tmp_path, steps=1, settings=SMALL)
    assert (tmp_path / "history.csv").read_text().splitlines()[1].startswith("1,1,")


def test_every_phase_draws_other_batches(corpus):
    run = runs._Run(read_corpus(corpus), 0, STEPS, replace(SMALL, phases=(FIRST, FIRST)))
    run.start(Path("nowhere"))
    first = run.batch(0)
    run.step = 20
    run.enter_phase()
    again = run.batch(20)
    assert first.components.shape == again.components.shape
    assert not torch.equal(first.components, again.components)


@pytest.mark.parametrize("stops", [[3], [16, 7], [24], [30, 2]])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(finished, corpus, tmp_path, stops):
    for steps in stops:
        with pytest.raises(Cancelled, match="of 40"):
            pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL, monitor=stop_after(steps))
        assert [path.name for path in tmp_path.iterdir()] == [runs.STATE_FILE]
    pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (finished.folder / name).read_bytes(), name


def test_a_killed_run_goes_on_from_the_last_saved_step(finished, corpus, tmp_path):
    def kill(fraction: float, _message: str) -> None:
        if fraction == 14 / STEPS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL, save_every=6, monitor=Monitor(kill))
    assert torch.load(tmp_path / runs.STATE_FILE, weights_only=True)["step"] == 12
    pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    assert weights(tmp_path) == weights(finished.folder)


def test_a_run_killed_while_it_wrote_its_checkpoint_writes_it_again(finished, corpus, tmp_path, monkeypatch):
    def no_space(*_args, **_kwargs):
        (tmp_path / "args.json").write_text("{")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", no_space)
        with pytest.raises(OSError, match="no space"):
            pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL, monitor=stop_after(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert weights(tmp_path) == weights(finished.folder)


def test_a_finished_run_is_returned_without_training(finished, corpus):
    before = weights(finished.folder)
    again = pretrain(corpus, finished.folder, steps=STEPS, settings=SMALL, monitor=stop_after(0))
    assert again == finished
    assert weights(finished.folder) == before


@pytest.mark.parametrize("state", ["finished", "stopped"])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": 3}, "seed"),
        ({"steps": 41}, r"steps \(40 there, 41 here\)"),
        ({"settings": replace(SMALL, d_hid=64)}, "d_hid"),
        (
            {"settings": replace(SMALL, phases=(FIRST, replace(SECOND, warmup=3)))},
            r"in warmup of phase 2 \(2 there, 3 here\);",
        ),
        ({"settings": replace(SMALL, phases=(FIRST,))}, "steps of phase 2"),
        ({"corpus": 1}, "corpus"),
    ],
)
def test_another_plan_in_the_same_folder_is_refused(finished, corpus, tmp_path, state, change, word):
    folder = finished.folder if state == "finished" else tmp_path
    arguments = {"steps": STEPS, "settings": SMALL, "seed": 0, **change}
    files = corpus[: arguments.pop("corpus", 2)]
    if state == "stopped":
        with pytest.raises(Cancelled):
            pretrain(corpus, folder, steps=STEPS, settings=SMALL, monitor=stop_after(0))
    with pytest.raises(FrostlineError, match=word):
        pretrain(files, folder, **arguments)


def test_another_plan_works_in_another_folder_and_the_old_one_goes_on_in_its_own(finished, corpus, tmp_path):
    with pytest.raises(Cancelled):
        pretrain(corpus, tmp_path / "mine", steps=STEPS, settings=SMALL, monitor=stop_after(5))
    remedy = r"seed \(0 there, 3 here\); choose another folder, or repeat that run's arguments to go on with it$"
    with pytest.raises(FrostlineError, match=remedy):
        pretrain(corpus, tmp_path / "mine", steps=STEPS, settings=SMALL, seed=3)
    assert pretrain(corpus, tmp_path / "another", steps=STEPS, settings=SMALL, seed=3).steps == STEPS
    pretrain(corpus, tmp_path / "mine", steps=STEPS, settings=SMALL, seed=0)
    assert weights(tmp_path / "mine") == weights(finished.folder)


def test_a_damaged_state_is_named_and_without_it_the_run_starts_anew(finished, corpus, tmp_path):
    (tmp_path / runs.STATE_FILE).write_bytes(b"not a state")
    with pytest.raises(FrostlineError, match="remove it to start again") as refused:
        pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    Path(str(refused.value).partition(" cannot be read")[0]).unlink()
    pretrain(corpus, tmp_path, steps=STEPS, settings=SMALL)
    assert weights(tmp_path) == weights(finished.folder)


def test_a_lower_learning_rate_keeps_the_loss_finite(corpus, tmp_path):
    wild, tame = (replace(SMALL, phases=(replace(FIRST, learning_rate=rate, warmup=0),)) for rate in (1e30, 1e-3))
    with pytest.raises(FrostlineError, match=r"loss is not finite at step \d+; lower the learning rate"):
        pretrain(corpus, tmp_path / "wild", settings=wild)
    assert pretrain(corpus, tmp_path / "tame", settings=tame).steps == FIRST.steps


def test_folding_moves_the_scale_into_the_first_layer(corpus):
    pooled = read_corpus(corpus)
    encoder = runs.build_encoder(pooled, SMALL, 0).eval()
    ids, values = (
        torch.from_numpy(part) for part in runs.draw_subset(pooled.tokens(0), 30, 31, np.random.default_rng(0))
    )
    with torch.inference_mode():
        in_training = encoder.cls_states(ids, values / runs.VALUE_SCALE)
        runs.fold_values(encoder)
        torch.testing.assert_close(encoder.cls_states(ids, values), in_training, rtol=1e-5, atol=1e-5)


def test_subsets_are_the_cells_own_tokens_without_repeats(corpus):
    tokens = read_corpus(corpus).tokens(seed=0)
    ids, values = runs.draw_subset(tokens, 12, 13, np.random.default_rng(1))
    assert (ids[:, 0] == 1).all()
    assert (values[:, 0] == -2).all()
    for row, (start, stop) in enumerate(zip(tokens.offsets, tokens.offsets[1:], strict=False)):
        cell = dict(zip(tokens.gene_ids[start:stop], tokens.bins[start:stop], strict=True))
        shown = [(g, v) for g, v in zip(ids[row, 1:], values[row, 1:], strict=True) if g != 0]
        assert len({g for g, _ in shown}) == len(shown) == min(12, stop - start)
        assert all(cell[g] == v for g, v in shown)


def test_pooling_keeps_every_count_and_drops_rare_genes(corpus):
    pooled = read_corpus(corpus)
    first, second = (anndata.read_h5ad(path).to_df() for path in corpus)
    both = np.concatenate([frame.reindex(columns=pooled.genes, fill_value=0) for frame in (first, second)])
    np.testing.assert_array_equal(pooled.counts.toarray(), both)
    assert len(pooled.measured[0]) == N_GENES
    assert [pooled.genes[i] for i in pooled.measured[1]] == list(second.columns)
    kept = pooled.frequent(0.5)
    often = ((first > 0).mean() >= 0.5) | ((second > 0).mean() >= 0.5).reindex(first.columns, fill_value=False)
    assert list(kept.genes) == sorted(often[often].index)
    assert {kept.genes[i] for i in kept.measured[1]} == set(kept.genes) & set(second.columns)


@pytest.mark.parametrize("exponent", [0.0, 0.25, 1.0])
def test_components_are_those_of_the_log_normalised_cells_scaled_towards_equal_weight(corpus, exponent):
    pooled = read_corpus(corpus)
    counts = pooled.counts.toarray().astype(np.float64)
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    left, singular, _ = np.linalg.svd(logged - logged.mean(axis=0), full_matrices=False)
    expected = left[:, :4] * singular[:4] ** exponent
    expected /= np.sqrt((expected**2).mean())
    scores = principal_components(pooled, 4, seed=0, exponent=exponent)
    signs = np.sign((scores * expected).sum(axis=0))
    np.testing.assert_allclose(scores * signs, expected, atol=1e-3)


def test_neighbours_add_the_mean_components_of_the_most_similar_cells(corpus):
    """By hand, with all distances: the means over the five nearest, itself among them, scaled as the components."""
    pooled = read_corpus(corpus)
    alone = principal_components(pooled, 3, seed=0, exponent=0.25)
    both = principal_components(pooled, 3, seed=0, exponent=0.25, n_neighbors=5)
    assert both.shape == (len(alone), 6)
    np.testing.assert_allclose(both[:, :3] / both[:, :3].std(axis=0), alone / alone.std(axis=0), atol=1e-3)
    assert np.mean(both**2) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(both[:, 3:].std(axis=0), both[:, :3].std(axis=0), rtol=1e-4)

    logged = pooled.log_normalised().toarray().astype(np.float64)
    left, singular, _ = np.linalg.svd(logged - logged.mean(axis=0), full_matrices=False)
    space = (left * singular)[:, :50]
    distances = ((space[:, None] - space[None]) ** 2).sum(axis=2)
    nearest = np.argsort(distances, axis=1)[:, :5]
    assert (nearest[:, 0] == np.arange(len(space))).all()
    means = space[nearest, :3].mean(axis=1)
    for column in range(3):
        found = np.corrcoef(means[:, column], both[:, 3 + column])[0, 1]
        same_sign = np.sign(np.corrcoef(space[:, column], both[:, column])[0, 1])
        assert found * same_sign == pytest.approx(1, abs=1e-4)


def write(adata: anndata.AnnData, path: Path) -> Path:
    adata.write_h5ad(path)
    return path


def spoil(path: Path, how: str) -> Path:
    """Write a file that cannot be pre-trained on."""
    adata = counts(0)
    if how == "truncated":
        write(adata, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path
    if how == "repeated genes":
        adata.var_names = ["G000", "G000", *adata.var_names[2:]]
    elif how == "empty cell":
        adata.X = sparse.diags([0.0] + [1.0] * (adata.n_obs - 1)).astype(np.float32).tocsr() @ adata.X
    elif how == "no values":
        adata.X = None
    else:
        adata.X.data[5] = {"negative": -1.0, "missing": np.nan, "infinite": np.inf, "fraction": 0.5}[how]
    return write(adata, path)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")  # said while the file is made
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "cannot be read"),
        ("negative", "seen: -1"),
        ("missing", "seen: nan"),
        ("infinite", "seen: inf"),
        ("fraction", "counts in X .* seen: 0.5"),
        ("repeated genes", "not unique.*G000"),
        ("empty cell", "first in row 0"),
        ("no values", "X is empty"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name(tmp_path, how, message):
    path = spoil(tmp_path / "bad.h5ad", how)
    with pytest.raises(DatasetError, match=rf"(?s)bad\.h5ad.*{message}"):
        pretrain([path], tmp_path / "out", steps=2, settings=SMALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("paths", "message"),
    [([], "corpus is empty"), (["nowhere.h5ad"], r"nowhere\.h5ad does not exist"), (["."], "is a folder")],
)
def test_a_missing_corpus_is_refused(tmp_path, paths, message):
    with pytest.raises(DatasetError, match=message):
        pretrain([tmp_path / path for path in paths], tmp_path / "out")


def test_the_same_file_twice_is_refused(corpus, tmp_path):
    with pytest.raises(DatasetError, match="more than once"):
        pretrain([corpus[0], corpus[0]], tmp_path)


def test_too_few_cells_are_refused(corpus, tmp_path):
    with pytest.raises(DatasetError, match=r"160 cells and 120 .* must exceed 128"):
        pretrain(corpus, tmp_path, steps=2)


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        (SMALL, {"d_model": 15}),
        (SMALL, {"phases": ()}),
        (FIRST, {"subset_sizes": ()}),
        (FIRST, {"batch_cells": 1}),
        (FIRST, {"steps": 0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, change):
    with pytest.raises(FrostlineError, match=next(iter(change))):
        replace(settings, **change)


@pytest.mark.parametrize("change", [{"steps": 0}, {"save_every": 0}])
def test_no_steps_are_refused(corpus, tmp_path, change):
    with pytest.raises(FrostlineError, match="at least 1"):
        pretrain(corpus, tmp_path, **change)


@pytest.fixture(scope="module")
def mini():
    """The checkpoint that ships with the package."""
    return load_checkpoint("mini")


def test_mini_files_are_small_and_complete(mini):
    sizes = {path.name: path.stat().st_size for path in mini.folder.iterdir()}
    assert sorted(sizes) == FILES
    assert sum(sizes.values()) <= 10_000_000
    assert sizes["history.csv"] < 20_000


def test_mini_fits_the_parts_that_the_official_encoder_is_made_of(mini):
    """Renamed as the official code does, the tensors fill torch's own layers, which give the same states."""
    args = json.loads((mini.folder / "args.json").read_text())
    d, n_genes = args["embsize"], len(mini.vocabulary)
    layer = torch.nn.TransformerEncoderLayer(d, args["nheads"], args["d_hid"], args["dropout"], batch_first=True)
    official = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.ModuleDict(
                {"embedding": torch.nn.Embedding(n_genes, d), "enc_norm": torch.nn.LayerNorm(d)}
            ),
            "value_encoder": torch.nn.ModuleDict(
                {
                    "linear1": torch.nn.Linear(1, d),
                    "linear2": torch.nn.Linear(d, d),
                    "norm": torch.nn.LayerNorm(d),
                }
            ),
            "transformer_encoder": torch.nn.TransformerEncoder(layer, args["nlayers"]),
        }
    ).eval()
    state = load_file(mini.folder / "model.safetensors")
    official.load_state_dict({name.replace("Wqkv.", "in_proj_"): tensor for name, tensor in state.items()})
    ids, values = torch.tensor([[1, 5, 700, 8000]]), torch.tensor([[-2.0, 50.0, 7.0, 1.0]])
    with torch.inference_mode():
        genes, value = official["encoder"], official["value_encoder"]
        x = genes["enc_norm"](genes["embedding"](ids))
        x = x + value["norm"](value["linear2"](value["linear1"](values[..., None]).relu()))
        expected = official["transformer_encoder"](x)
        torch.testing.assert_close(mini.encoder()(ids, values), expected, rtol=1e-5, atol=1e-5)


def test_mini_vocabulary_knows_blood(mini):
    assert {"CD3D", "MS4A1", "LYZ", "NKG7"} <= mini.vocabulary.keys()


def test_mini_card_says_what_it_is(mini):
    card = " ".join((mini.folder / "MODEL_CARD.md").read_text().split())
    args = json.loads((mini.folder / "args.json").read_text())
    for needed in ("demonstration", "not the official scGPT weights", "donor", "PCA", "seed", "random initial values"):
        assert needed in card, needed
    assert all(file["sha256"] in card for file in args["corpus"])
    assert f"{sum(file['cells'] for file in args['corpus']):,}" in card


def test_a_card_says_what_each_phase_did_and_hides_nothing_from_markdown(finished, mini):
    for folder, phases in ((finished.folder, (FIRST, SECOND)), (mini.folder, PretrainSettings().phases)):
        card = (folder / "MODEL_CARD.md").read_text()
        assert "<cls>" not in card.replace("`<cls>`", "")  # it would be taken for a tag
        assert f"| steps | {' | '.join(f'{phase.steps:,}' for phase in phases)} |" in card
        assert f"| neighbours | {' | '.join(str(phase.n_neighbors) for phase in phases)} |" in card
    args = json.loads((mini.folder / "args.json").read_text())
    assert args["settings"] == json.loads(json.dumps(asdict(PretrainSettings())))  # the defaults made it


def test_mini_states_differ_between_cells(mini):
    encoder = mini.encoder()
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(3 + rng.integers(0, encoder.config.n_tokens - 3, (8, 100)))
    ids[:, 0] = encoder.config.cls_id
    values = torch.from_numpy(rng.integers(1, 51, (8, 100)).astype(np.float32))
    values[:, 0] = -2
    with torch.inference_mode():
        states = encoder.cls_states(ids, values)
    assert torch.isfinite(states).all()
    assert (states - states.mean(dim=0)).norm(dim=1).min() > 1
