"""Remedies for splits, strategies, their settings and numbers: what a message says to do helps."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from remedy_parts import cells, do, keywords, refusal
from scipy import sparse

import frostline
from frostline.encoder.training import TrainingSchedule, train_classifier
from frostline.errors import FrostlineError
from frostline.pretraining.corpus import read_corpus
from frostline.strategies import FrozenProbe, Lora, Majority, PcaLogistic, ProbeObsm
from frostline.strategies.encoder import rows_to_train_on

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("instant_umap")
class TestSplits:
    """What splits refuse."""

    def test_one_group_only(self):
        adata = cells("ab" * 12, donor="one", batch=["x", "y", "z"] * 8)
        dataset = frostline.load_dataset(adata, "kind", group_key="donor")
        message = refusal(lambda: frostline.split(dataset))
        assert keywords(message) == [{"kind": "stratified"}]
        assert frostline.split(dataset, **keywords(message)[0]).kind == "stratified"
        (columns,) = re.findall(r"another group_key \(columns like groups: (.*)\)", message)
        assert columns == "batch"
        assert frostline.split(frostline.load_dataset(adata, "kind", group_key=columns)).kind == "group"

    def test_one_group_only_and_no_other_column(self):
        dataset = frostline.load_dataset(cells("ab" * 12, donor="one"), "kind", group_key="donor")
        message = refusal(lambda: frostline.split(dataset))
        assert "another group_key" not in message
        assert frostline.split(dataset, **keywords(message)[0]).kind == "stratified"

    @pytest.mark.parametrize("columns", [{"donor": ["p", "q", "r", "s"] * 6}, {"colour": ["p", "q", "r", "s"] * 6}])
    def test_groups_that_were_not_named(self, columns):
        adata = cells("aabb" * 3 + "bbaa" * 3, **columns)
        dataset = frostline.load_dataset(adata, "kind")
        (found,) = keywords(refusal(lambda: frostline.split(dataset, kind="group")))
        if "group_key" in found:
            assert frostline.split(frostline.load_dataset(adata, "kind", **found), kind="group").kind == "group"
        else:
            assert frostline.split(dataset, **found).kind == "stratified"

    @given(st.lists(st.sampled_from(["a1", "a2", "a3", "b1", "b2", "c1", "b4", "a4"]), min_size=12, max_size=40))
    @settings(max_examples=60)
    def test_whatever_is_named_where_nothing_can_be_trained_works(self, drawn):
        """Groups that hold few labels: many splits leave one class to train on."""
        adata = cells([name[0] for name in drawn], donor=[name[1] for name in drawn])
        message = ""
        try:
            dataset = frostline.load_dataset(adata, "kind", group_key="donor")
            frostline.split(dataset, kind="group")
        except FrostlineError as error:
            message = str(error)
        if "training cells" in message:
            for keyword in keywords(message):
                frostline.split(dataset, **{"kind": "group", **keyword})
            assert keywords(message) or "another group_key" in message

    def test_a_donor_a_class(self):
        """No seed helps; random cells do, and another column."""
        adata = cells("aaaabbbb" * 4, donor=list("ppppqqqq") * 4, batch=list("xyzw") * 8)
        dataset = frostline.load_dataset(adata, "kind", group_key="donor")
        message = refusal(lambda: frostline.split(dataset))
        assert keywords(message) == [{"kind": "stratified"}]
        frostline.split(dataset, kind="stratified")
        assert "another group_key" in message
        frostline.split(frostline.load_dataset(adata, "kind", group_key="batch"))

    def test_rare_classes(self):
        adata = cells("aabbccddee", broad=list("xxxxxyyyyy"))
        message = refusal(lambda: frostline.split(frostline.load_dataset(adata, "kind")))
        assert "another label_key" in message
        assert frostline.split(frostline.load_dataset(adata, "broad")).classes == ("x", "y")

    def test_one_set_for_a_split_across_two(self):
        train, test = (frostline.load_dataset(cells("ab" * 10), "kind", name=name) for name in ("one", "two"))
        message = refusal(lambda: frostline.split(train, kind="cross"))
        assert frostline.split(do(message, train=train, test=test), kind="cross").kind == "cross"

    def test_budgets(self):
        dataset = frostline.load_dataset(cells("ab" * 12), "kind")
        cut = frostline.split(dataset)
        least = re.search(r"give at least (\d+)", refusal(lambda: cut.with_budget(dataset, 1)))
        assert cut.with_budget(dataset, int(least[1])).sizes["train"] == 2
        with pytest.raises(ValueError, match=r"at least 2 per class"):
            frostline.RunSettings(budgets=[1])
        assert frostline.RunSettings(budgets=[2]).budgets == [2]

    def test_a_split_of_other_cells(self):
        dataset, other = (frostline.load_dataset(cells(labels), "kind") for labels in ("ab" * 12, "ba" * 13))
        theirs = frostline.split(other)
        for work in (
            lambda cut: cut.with_budget(dataset, 2),
            lambda cut: frostline.evaluate(PcaLogistic(), dataset, cut),
            lambda cut: list(frostline.label_efficiency([PcaLogistic()], dataset, [cut], budgets=[2])),
        ):
            message = refusal(lambda work=work: work(theirs))
            assert work(do(message, dataset=dataset))
        relabelled = frostline.load_dataset(cells("ba" * 12), "kind")
        with pytest.raises(FrostlineError, match=r"drawn from another data set than .* of other cells or labels"):
            frostline.evaluate(PcaLogistic(), relabelled, frostline.split(dataset))


class TestStrategies:
    """What strategies refuse, before they train."""

    @pytest.fixture
    def known(self, small_checkpoint, pbmc):
        """Data on genes that the checkpoint knows, and one that it does not."""
        return cells("ab" * 15, genes=(*pbmc.genes[:8], "nonsense"))

    @pytest.mark.parametrize("part", ["train", "validation"])
    def test_a_class_that_is_on_one_side_only(self, part):
        dataset = frostline.load_dataset(cells("ab" * 15), "kind")
        cut = frostline.split(dataset)
        labels = {name: dataset.labels[getattr(cut, name)] for name in ("train", "validation")}
        only_a = {name: getattr(cut, name)[found == "a"] for name, found in labels.items()}
        broken = {
            "train": dataclasses.replace(cut, train=only_a["train"]),
            "validation": dataclasses.replace(
                cut, train=cut.train[labels["train"] == "b"], validation=only_a["validation"]
            ),
        }
        works = {"train": PcaLogistic().ensure_applicable, "validation": rows_to_train_on}[part]
        message = refusal(lambda: works(dataset, broken[part]))
        works(dataset, do(message, dataset=dataset))

    @pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, pd.DataFrame])
    def test_an_embedding_with_gaps(self, kind):
        adata = cells("ab" * 12)
        values = np.random.default_rng(0).normal(size=(24, 3))
        values[[3, 7], [0, 2]] = np.nan
        adata.obsm["X'mine"] = kind(values) if kind is not pd.DataFrame else pd.DataFrame(values, index=adata.obs_names)
        strategy = ProbeObsm("X'mine")

        def run(adata):
            dataset = frostline.load_dataset(adata, "kind")
            strategy.ensure_applicable(dataset, frostline.split(dataset))
            return dataset

        assert len(run(do(refusal(lambda: run(adata)), adata=adata))) == 22

    @pytest.mark.parametrize("harm", ["text", "deep", "complex", "no column"])
    def test_an_embedding_that_is_no_table(self, harm):
        adata, values = cells("ab" * 12), np.random.default_rng(0).normal(size=(24, 3))
        wrong = {
            "text": values.astype(str),
            "deep": values[:, None],
            "complex": values + 1j,
            "no column": values[:, :0],
        }
        adata.obsm["X_mine"] = wrong[harm]

        def run():
            dataset = frostline.load_dataset(adata, "kind")
            ProbeObsm("X_mine").ensure_applicable(dataset, frostline.split(dataset))
            return dataset

        shape = re.search(r"store an array of floats there, of shape \((\d+), d\)$", refusal(run))
        adata.obsm["X_mine"] = np.random.default_rng(0).normal(size=(int(shape[1]), 2))
        dataset = run()
        cut = frostline.split(dataset)
        assert "pass the data set, too" in refusal(lambda: ProbeObsm("X_mine").planned_parameters(cut))
        assert ProbeObsm("X_mine").planned_parameters(cut, dataset) == 3

    def test_an_embedding_without_a_key(self):
        (name,) = re.findall(r"as in (\S+)$", refusal(lambda: frostline.strategies.build(["probe_obsm:"])))
        assert frostline.strategies.build([name])[0].name == name

    def test_one_gene_only(self):
        dataset = frostline.load_dataset(cells("ab" * 12), "kind")
        cut = frostline.split(dataset)
        message = refusal(
            lambda: PcaLogistic().ensure_applicable(dataset, dataclasses.replace(cut, genes=cut.genes[:1]))
        )
        assert message.endswith("keep more genes of the data set, or leave this strategy out")
        PcaLogistic().ensure_applicable(dataset, dataclasses.replace(cut, genes=cut.genes[:2]))
        Majority().ensure_applicable(dataset, dataclasses.replace(cut, genes=cut.genes[:1]))

    @pytest.mark.parametrize("n", [2, 9])
    @pytest.mark.parametrize("layer", [None, "raw"])
    def test_cells_without_a_known_gene(self, known, small_checkpoint, n, layer):
        """Other genes are counted in them, so that a filter by the number of genes would leave them."""
        matrix = known.X.toarray()
        matrix[:n, :-1] = 0
        known.X = matrix if n == 2 else sparse.csr_matrix(matrix)
        if layer == "raw":
            known.raw = known
            known = known[:, [0, 8]].copy()  # what is known is in raw alone
            known.X = np.ones(known.shape)
        strategy = FrozenProbe(checkpoint=str(small_checkpoint))

        def run(adata):
            dataset = frostline.load_dataset(adata, "kind", layer=layer)
            strategy.ensure_applicable(dataset, frostline.split(dataset))
            return dataset

        loaded = frostline.load_dataset(known, "kind", layer=layer)
        assert len(run(do(refusal(lambda: run(known)), adata=known, dataset=loaded))) == 30 - n

    @pytest.mark.filterwarnings("ignore:40 of 40 genes are in the vocabulary")
    @pytest.mark.parametrize("n", [2, 9])
    @pytest.mark.parametrize(("kind", "setting"), [(Lora, "n_genes"), (FrozenProbe, "most_genes")])
    def test_cells_without_one_of_the_few_genes_that_are_read(self, pbmc, small_checkpoint, kind, setting, n):
        """Each expresses a gene that the encoder knows."""
        adata = cells("ab" * 15, genes=pbmc.genes[:40])
        adata.X[:n, :39] = 0
        adata.X.eliminate_zeros()
        strategy = kind(checkpoint=str(small_checkpoint))

        def run(adata, most):
            dataset = frostline.load_dataset(adata, "kind")
            checked = dataclasses.replace(strategy, **{setting: most})
            checked.ensure_applicable(dataset, frostline.split(dataset))
            return dataset

        message = refusal(lambda: run(adata, 5))
        assert message.startswith(
            f"{n} cell(s) express none of the 5 genes that strategy '{strategy.name.split(':')[0]}"
        )
        enough = int(re.search(rf"{setting} = (\d+) gives each", message)[1])
        assert len(run(adata, enough)) == 30
        assert refusal(lambda: run(adata, enough - 1))
        assert ("leave them out" in message) == (n == 2)
        if n == 2:
            assert len(run(do(message, adata=adata), 5)) == 28
            return
        dataset = frostline.load_dataset(adata, "kind")  # fitted without having been checked
        few = dataclasses.replace(strategy, **{setting: 5})
        message = refusal(lambda: few.fit(dataset, frostline.split(dataset)))
        assert message.endswith(f"; or let {few.name!r} read more genes than {setting} = 5")
        assert "readable" not in message  # which knows nothing of the setting

    @pytest.mark.filterwarnings("ignore:8 of 9 genes are in the vocabulary")
    def test_cells_without_a_known_gene_in_embed(self, known, small_checkpoint):
        matrix = known.X.toarray()
        matrix[:9, :-1] = 0
        known.X = matrix
        left = do(refusal(lambda: frostline.embed(known, checkpoint=small_checkpoint)), adata=known).copy()
        assert frostline.embed(left, checkpoint=small_checkpoint).shape[0] == 21


@pytest.mark.usefixtures("instant_umap")
class TestWithheldClasses:
    """What withholding a class needs."""

    @pytest.fixture
    def three(self):
        dataset = frostline.load_dataset(cells("abc" * 12), "kind")
        return dataset, frostline.split(dataset)

    def withheld(self, dataset, cut, *classes):
        return list(frostline.leave_one_class_out([PcaLogistic()], dataset, [cut], classes=list(classes)))

    def test_a_class_that_is_not_there(self, three):
        dataset, cut = three
        for work in (cut.without_class, lambda dataset, name: self.withheld(dataset, cut, name)):
            message = refusal(lambda work=work: work(dataset, "d"))
            known = message.partition("known: ")[2].split(", ")
            assert known == ["a", "b", "c"]
            for name in known:
                assert work(dataset, name)

    def test_two_classes_only(self):
        adata = cells("ab" * 12, fine=list("pqrs") * 6)
        dataset = frostline.load_dataset(adata, "kind")
        cut = frostline.split(dataset)
        for work in (lambda: self.withheld(dataset, cut, "a"), lambda: cut.without_class(dataset, "a")):
            assert re.search(r"oad with another label_key$", refusal(work))
        finer = frostline.load_dataset(adata, "fine")
        assert [record.unseen for record in self.withheld(finer, frostline.split(finer), "p")] == ["p"]

    def test_an_unknown_kind_of_split(self, three):
        dataset, _ = three
        known = refusal(lambda: frostline.split(dataset, kind="random")).partition("known: ")[2].split(", ")
        assert "stratified" in known
        assert frostline.split(dataset, kind="stratified").kind == "stratified"


class TestSettings:
    """What a run is refused with, before it starts."""

    def stated(self, **given) -> str:
        return refusal(lambda: frostline.RunSettings.from_notebook({"PROFILE": "quickstart", **given}))

    @pytest.mark.parametrize(
        ("name", "wrong"),
        [("PROFILE", "fast"), ("SPLIT", "random"), ("VALUES", "rpkm"), ("CHECKPOINT", "Mini"), ("DATASET", "pbmc")],
    )
    def test_each_known_value_that_is_listed(self, name, wrong):
        message = self.stated(**{name: wrong})
        known = re.match(rf"{name}: unknown .*? '{wrong}'; known: (.*?)(?: \(got|\.)", message)[1].split(", ")
        assert wrong not in known
        for value in known:
            given = {"STRATEGIES": ["pca_logistic"], name: value}
            assert getattr(frostline.RunSettings.from_notebook(given), name.lower()) == value

    def test_each_strategy_that_is_listed(self):
        message = self.stated(STRATEGIES=["pca_logistics"])
        known = re.search(r"known: (.*?) \(got", message)[1].split(", ")
        assert frostline.RunSettings.from_notebook({"STRATEGIES": known}).strategies == known

    def test_each_parameter_that_is_listed(self):
        message = self.stated(SEEDS=3)
        assert message.startswith("SEEDS: unknown parameter")
        known = message.partition("The parameters are: ")[2].split(", ")
        defaults = frostline.RunSettings()
        frostline.RunSettings.from_notebook({name: getattr(defaults, name.lower()) for name in known})

    def test_least_budget(self):
        message = self.stated(BUDGETS=[1, 5])
        least = int(re.search(r"at least (\d+) per class", message)[1])
        assert frostline.RunSettings.from_notebook({"BUDGETS": [least, 5]}).budgets == [2, 5]


class TestNumbers:
    """Numbers that a message bounds: the bound itself is taken."""

    @pytest.mark.parametrize("targets", [{}, {"targets": ("linear1",)}])
    def test_highest_rank(self, small_checkpoint, pbmc, targets):
        dataset = frostline.load_dataset(cells("ab" * 15, genes=pbmc.genes[:8]), "kind")

        def check(rank):
            (strategy,) = frostline.strategies.build(["lora"], checkpoint=str(small_checkpoint))
            dataclasses.replace(strategy, rank=rank, **targets).ensure_applicable(dataset, frostline.split(dataset))
            return rank

        most = int(re.search(r"must be at most (\d+) dimensions", refusal(lambda: check(1_000)))[1])
        assert check(most) == 32
        refusal(lambda: check(most + 1))

    def test_longest_warmup(self, small_checkpoint):
        (strategy,) = frostline.strategies.build(["head"], checkpoint=str(small_checkpoint))
        message = refusal(lambda: dataclasses.replace(strategy, epochs=5, warmup_epochs=6))
        most = int(re.search(r"at most epochs, which is (\d+)", message)[1])
        assert dataclasses.replace(strategy, epochs=5, warmup_epochs=most).warmup_epochs == 5

    def test_a_smaller_learning_rate(self):
        """Of a loss with walls: a step of 1 goes through one, steps of 1/1000 stay between them."""

        def train(rate):
            module = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.zeros(1))})
            schedule = TrainingSchedule(epochs=12, batch_size=8, learning_rate=rate, seed=0)

            def logits(rows):
                wall = torch.exp(200 * (module["w"] - 5e-4).abs())
                return torch.stack([torch.zeros(1), wall], dim=1).expand(len(rows), 2)

            labels = np.zeros(8, dtype=np.int64)
            rows_of = lambda part, rows: (torch.from_numpy(rows),)  # noqa: E731
            return train_classifier(module, rows_of, logits, {"train": labels, "validation": labels}, schedule)

        assert re.search(r"loss became (nan|inf); try a smaller learning rate$", refusal(lambda: train(1.0)))
        assert np.isfinite([epoch["train_loss"] for epoch in train(1e-3)]).all()

    def test_the_same_hyper_parameters_in_all_repeats(self, make_record):
        mixed = [make_record("lora", parameters={"rank": rank}, repeat=i) for i, rank in enumerate((4, 8))]
        assert refusal(lambda: frostline.compare(mixed)).endswith("evaluate all repeats with the same")
        same = [dataclasses.replace(record, parameters={"rank": 4}) for record in mixed]
        assert frostline.compare(same).strategies == ("lora",)

    def test_least_cells_of_a_class_that_two_sets_share(self):
        def joined(in_both):
            train = frostline.load_dataset(cells("a" * 30 + "b" * 30 + "ce"), "kind", name="one")
            test = frostline.load_dataset(cells("ce" * in_both + "d" * 30), "kind", name="two")
            both = frostline.join_datasets(train, test)
            return frostline.split(both, kind="cross")

        message = refusal(lambda: joined(1))
        least = int(re.search(r"label at least (\d+) cells, in both sets together", message)[1])
        assert len(joined(least - 1).test) == 2 * (least - 1)  # and one of each in the other set


class TestOtherSteps:
    """What pre-training and strategies on components refuse."""

    def test_cells_without_counts_in_a_corpus(self, tmp_path):
        adata = cells("ab" * 12, genes=[f"G{i}" for i in range(250)])
        adata.X = adata.X.toarray()
        adata.X[3] = 0
        adata.write_h5ad(tmp_path / "one.h5ad")
        line = re.search(r"for example with (scanpy\..*\))$", refusal(lambda: read_corpus([tmp_path / "one.h5ad"])))[1]
        exec(f"import scanpy; {line}", {"adata": adata})
        adata.write_h5ad(tmp_path / "one.h5ad")
        assert read_corpus([tmp_path / "one.h5ad"]).counts.shape == (23, 250)

    def test_a_cell_of_rare_genes_alone(self, tmp_path):
        """In the second file, whose rows are counted by themselves."""
        paths = [tmp_path / "one.h5ad", tmp_path / "two.h5ad"]
        cells("ab" * 12).write_h5ad(paths[0])
        adata = cells("ab" * 15)
        adata.X = adata.X.toarray()
        adata.X[:, 5] = 0
        adata.X[7] = [0, 0, 0, 0, 0, 3]
        adata.var_names = [*adata.var_names[:5], "RARE"]
        adata.write_h5ad(paths[1])
        message = refusal(lambda: read_corpus(paths).frequent(0.05))
        assert message.startswith("two.h5ad: 1 cell(s)")
        assert "the first in row 7;" in message
        assert len(read_corpus(paths).frequent(0.0).genes) == 7
        names = {"adata": adata, "np": np}
        exec(message.partition("leave them out: ")[2], names)
        names["adata"].write_h5ad(paths[1])
        assert read_corpus(paths).frequent(0.05).counts.shape == (24 + 29, 6)

    def test_columns_of_one_name(self):
        adata = cells("ab" * 12, other="x")
        adata.obs.columns = ["kind", "kind"]
        message = refusal(lambda: frostline.load_dataset(adata, "kind"))
        exec(message.partition("of each name: ")[2], {"adata": adata})
        assert frostline.load_dataset(adata, "kind").summary()["cells"].tolist() == [12, 12]

    def test_a_data_set_that_cannot_be_downloaded(self, monkeypatch):
        def refuse():
            raise OSError("no route")

        monkeypatch.setattr("scanpy.datasets.pbmc3k_processed", refuse)
        message = refusal(lambda: frostline.load_dataset("pbmc3k"))
        assert len(frostline.load_dataset(re.search(r"Without a network use '(.*?)',", message)[1])) == 700

    @pytest.mark.parametrize("key", ["", "types"])
    def test_each_column_that_is_listed(self, key):
        adata = cells("ab" * 12, fine=list("pqrs") * 6)
        for name in re.search(r"has: (.*)$", refusal(lambda: frostline.load_dataset(adata, key)))[1].split(", "):
            assert frostline.load_dataset(adata, name).label_key == name
