"""A frozen probe on fewer genes: which it reads, what it is called, beside what it is put."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import FrostlineError
from frostline.strategies import FrozenProbe, build, load, with_like_probes
from frostline.strategies.encoder import known_genes


@pytest.mark.slow
def test_it_reads_the_known_genes_of_the_largest_variance_over_training_cells(pbmc, cut):
    fitted = FrozenProbe(most_genes=50).fit(pbmc, cut)
    known = known_genes(pbmc, load_checkpoint("mini"))
    values = pbmc.expression(cut.train, known).toarray().astype(float)
    wanted = {known[i] for i in np.argsort(-values.var(axis=0))[:50]}
    assert set(fitted.genes_) == wanted
    assert len(FrozenProbe().fit(pbmc, cut).genes_) == len(known) > 50


@pytest.mark.slow
def test_it_reads_what_lora_reads(pbmc, cut):
    (lora,) = build(["lora"])
    lora = dataclasses.replace(lora, n_genes=30, epochs=1, min_steps=0).fit(pbmc, cut)
    assert FrozenProbe(most_genes=30).fit(pbmc, cut).genes_ == lora.genes_


@pytest.mark.slow
def test_it_is_built_by_its_name_saved_and_loaded(pbmc, cut, tmp_path):
    (probe,) = build(["frozen_probe:50"])
    assert (probe.name, probe.most_genes) == ("frozen_probe:50", 50)
    fitted = probe.fit(pbmc, cut)
    fitted.save(tmp_path)
    again = load(tmp_path)
    assert again.name == "frozen_probe:50"
    np.testing.assert_array_equal(again.predict_proba(pbmc, cut.test), fitted.predict_proba(pbmc, cut.test))


@pytest.mark.parametrize("text", ["", "many", "5.5", "-3"])
def test_what_is_no_number_of_genes_is_refused_with_an_example(text):
    with pytest.raises(FrostlineError, match="as in frozen_probe:500; got"):
        build([f"frozen_probe:{text}"])


class TestLikeProbes:
    """pbmc68k-reduced has 752 genes that mini knows."""

    def names(self, pbmc, names, **changes):
        strategies = [dataclasses.replace(s, **changes.get(s.name, {})) for s in build(names)]
        return [each.name for each in with_like_probes(strategies, pbmc)]

    def test_one_stands_beside_the_frozen_probe_for_each_number_of_genes(self, pbmc):
        found = self.names(pbmc, ["frozen_probe", "head", "lora", "ia3", "full"], full={"n_genes": 300})
        assert found == ["frozen_probe", "frozen_probe:300", "frozen_probe:500", "head", "lora", "ia3", "full"]

    def test_none_where_all_known_genes_are_read_anyway(self, pbmc):
        assert self.names(pbmc, ["frozen_probe", "lora"], lora={"n_genes": 752}) == ["frozen_probe", "lora"]
        assert "frozen_probe:751" in self.names(pbmc, ["frozen_probe", "lora"], lora={"n_genes": 751})

    @pytest.mark.parametrize(
        "names", [["lora"], ["frozen_probe", "head"], ["frozen_probe", "frozen_probe:500", "lora"]]
    )
    def test_none_unasked_without_a_pair_or_where_it_is_there(self, pbmc, names):
        assert self.names(pbmc, names) == names
