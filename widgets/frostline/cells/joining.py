"""Two data sets in one, to train on the first and test on the second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.columns import columns_of
from frostline.cells.datasets import Dataset, cell_prefix
from frostline.cells.gene_mapping import GeneMap, map_genes
from frostline.cells.genes import looks_like_ensembl
from frostline.cells.words import renaming, spellings, usual
from frostline.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd


def join_datasets(train: Dataset, test: Dataset, *, name: str | None = None) -> Dataset:
    """Put two data sets into one, to train on the first and test on the second.

    The common genes are kept, with their names of the first set; those that the second one calls otherwise are mapped.
    Values stay as they were normalised, on all genes of each set. Cell ids get the name of their set in front. Labels
    are matched by name when the result is split.

    Parameters
    ----------
    train, test
        What `load_dataset` returned; their label and group columns may have different names.
    name
        What to call the joined data set in tables; the names of both otherwise.

    Raises
    ------
    DatasetError
        They share no gene, or fewer than two labels.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> pancreas = load_dataset("pancreas").adata
    >>> one, other = (pancreas[pancreas.obs["donor"] == donor].copy() for donor in ("human1", "human2"))
    >>> joined = join_datasets(
    ...     load_dataset(one, "cell_type", name="first"), load_dataset(other, "cell_type", name="second")
    ... )
    >>> joined.name, len(joined), joined.sets
    ('first to second', 94, ('first', 'second'))
    """
    from anndata import AnnData
    from scipy import sparse

    sets = (train.name, test.name) if train.name != test.name else (f"{train.name} (train)", f"{test.name} (test)")
    found = _common_genes(train, test, sets)
    order = np.argsort(found.kept)  # that of the training set
    tokens = found.tokens
    genes = tuple(tokens[i] for i in order)
    _refuse_foreign_labels(train, test, sets)
    pair = list(zip(sets, (train, test), strict=True))
    parts = train.expression(np.arange(len(train)), genes), found.merged(test.matrix, logged=True)[:, order]
    matrix = sparse.vstack(parts, format="csr")
    matrix.sort_indices()
    adata = AnnData(matrix, obs=_joined_obs(train, test, sets), obsm=_joined_obsm(train, test))
    adata.var_names = list(genes)
    kept = f"{len(genes):,} genes that both sets have ({len(train.genes):,} and {len(test.genes):,})"
    renamed = found.counts["mapped"] + found.counts["summed"]
    if renamed:
        kept += f"; {renamed:,} of them have another name in {sets[1]}"
    return Dataset(
        name or " to ".join(sets),
        adata=adata,
        label_key=train.label_key,
        matrix=matrix,
        genes=genes,
        labels=np.concatenate([train.labels, test.labels]),
        values_name=" / ".join(dict.fromkeys([train.values_name, test.values_name])),
        group_key=train.group_key or test.group_key,
        notes=tuple(
            dict.fromkeys((*train.notes, *test.notes, f"{sets[0]} trains and {sets[1]} tests, on the {kept}."))
        ),
        sets=sets,
        gene_source=train.gene_source if train.gene_source == test.gene_source else "adata.var_names",
        set_columns=tuple((data.label_key, data.group_key) for data in (train, test)),
        origin=np.concatenate([np.repeat(set_name, len(data)) for set_name, data in pair]),
        given={**train.given, "test_label_key": test.label_key, **{f"test_{k}": v for k, v in test.given.items()}},
        evidence=" / ".join(dict.fromkeys(filter(None, (train.evidence, test.evidence)))),
    )


def _common_genes(train: Dataset, test: Dataset, sets: tuple[str, str]) -> GeneMap:
    """Genes of the test set brought to those of the training set."""
    found = map_genes(test.genes, train.genes)
    if not len(found.kept):
        seen = " and ".join(
            f"{', '.join(data.genes[:3])} in {s!r}" for s, data in zip(sets, (train, test), strict=True)
        )
        mixed = looks_like_ensembl(train.genes) != looks_like_ensembl(test.genes)
        remedy = "one of them holds Ensembl ids: put gene symbols" if mixed else "put the same kind of names"
        raw = any(data.gene_source.startswith("adata.raw.") for data in (train, test))
        names = "adata.var_names (for layer='raw' adata.raw.var.index)" if raw else "adata.var_names"
        raise DatasetError(
            f"the two data sets share no gene (seen: {seen}); {remedy} into {names} of both, or name columns "
            "of var that hold them (gene_column=...; GENE_COLUMN and TEST_GENE_COLUMN of a notebook)"
        )
    return found


def _refuse_foreign_labels(train: Dataset, test: Dataset, sets: tuple[str, str]) -> None:
    ours, theirs = (sorted(set(data.labels.tolist())) for data in (train, test))
    shared = set(ours) & set(theirs)
    if len(shared) < 2:
        raise DatasetError(
            f"the two data sets share {len(shared)} label(s), and two are needed; column {train.label_key!r} of "
            f"{sets[0]!r} has {', '.join(ours)}; column {test.label_key!r} of {sets[1]!r} has {', '.join(theirs)}. "
            f"Give the same cell types the same names first{_respelled(train, test, sets)}"
        )


def _respelled(train: Dataset, test: Dataset, sets: tuple[str, str]) -> str:
    """Line of code for labels of the second set that the first one spells otherwise."""
    # the first set's names count for more, so that they are the ones to keep
    counts = dict.fromkeys(test.labels.tolist(), 1) | dict.fromkeys(train.labels.tolist(), 2)
    kept = {name: usual(names) for names in spellings(counts) for name in names}
    here = {name: kept[name] for name in dict.fromkeys(test.labels.tolist()) if kept.get(name, name) != name}
    return f": `{renaming(test.label_key, here)}` for {sets[1]!r}" if here else ""


def _joined_obs(train: Dataset, test: Dataset, sets: tuple[str, str]) -> pd.DataFrame:
    """Labels, groups, and the columns of obs that both sets have."""
    import pandas as pd

    ours, theirs = columns_of(train.obs), columns_of(test.obs)
    columns: dict[str, Any] = {
        name: np.concatenate([np.asarray(part, dtype=object) for part in (column, theirs[name])])
        for name, column in ours.items()
        if name in theirs
    }
    group_key = train.group_key or test.group_key
    if group_key is not None:
        pairs = zip(sets, (train, test), strict=True)
        columns[group_key] = np.concatenate([_groups(data, group_key, set_name) for set_name, data in pairs])
    columns[train.label_key] = np.concatenate([train.labels, test.labels])
    cells = [f"{cell_prefix(s)}{cell}" for s, data in zip(sets, (train, test), strict=True) for cell in data.cells]
    return pd.DataFrame(columns, index=cells).infer_objects()


def _groups(data: Dataset, group_key: str, set_name: str) -> NDArray[np.str_]:
    """Group of each cell; of a set without a group column its column of that name, else the name of the set."""
    if data.groups is not None:
        return data.groups
    own = columns_of(data.obs).get(group_key)
    if own is None or group_key == data.label_key:
        return np.repeat(set_name, len(data))
    return np.where(own.notna(), own.astype(str), set_name).astype(str)


def _joined_obsm(train: Dataset, test: Dataset) -> dict[str, NDArray[Any]]:
    """Embeddings that both sets have, of the same width."""
    ours, theirs = train.same_cells().obsm, test.same_cells().obsm
    pairs = {key: (ours[key], theirs[key]) for key in ours if key in theirs}
    return {
        key: np.concatenate(pair)
        for key, pair in pairs.items()
        if all(isinstance(array, np.ndarray) for array in pair) and pair[0].shape[1:] == pair[1].shape[1:]
    }
