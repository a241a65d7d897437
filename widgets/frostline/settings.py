"""The parameters of a run, as a notebook, a panel and the command line name them; checked before any work."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from frostline.bounds import Device, Precision, hold
from frostline.cells.catalogue import DATASETS
from frostline.cells.datasets import Dataset, load_dataset, refuse_unknown_source
from frostline.cells.joining import join_datasets
from frostline.cells.partitions import Split
from frostline.cells.splits import KINDS, repeats_of, split
from frostline.cells.values import NAMES
from frostline.errors import DatasetError, FrostlineError, unknown
from frostline.lists import list_of
from frostline.profiles import get_profile
from frostline.strategies import Strategy, build, checkpoint_of, refuse_unusable_checkpoint

VALUES = (str, int, float, list, tuple, dict, set, Path, NoneType)
"""What an upper-case variable that is named as no parameter must hold to be taken for one; others are a notebook's."""


class RunSettings(BaseModel):
    """Parameters of a run; unknown names and wrong types are errors.

    Examples
    --------
    >>> RunSettings(profile="quickstart").dataset
    'pbmc68k-reduced'
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: str = "quickstart"
    """quickstart or full."""
    dataset: str = "pbmc68k-reduced"
    """A registered name or the path of an .h5ad file."""
    label_key: str = ""
    """Column of obs with the labels; empty takes the registered data set's own."""
    layer: str = ""
    """raw, a key of layers, or empty for the data set's own choice (X for a path)."""
    values: str = ""
    """What the values are (counts, linear, log1p, log2, log10 ...), where they do not show it; empty to find it out."""
    gene_column: str = ""
    """Column of var with the gene symbols, var_names for the names themselves; empty: found, where it is needed."""
    group_key: str = ""
    """Column of obs with donors, batches or studies; empty: the registered data set's own, or none."""
    test_dataset: str = ""
    """A second data set to test on, trained on the first; empty: tested on held-out cells of the first."""
    test_label_key: str = ""
    """Its column of labels; empty: the same as of the first, or the registered data set's own."""
    test_layer: str = ""
    """Its layer; empty for its own choice."""
    test_values: str = ""
    """What its values are; empty to find it out."""
    test_gene_column: str = ""
    """Its column of var with the gene symbols; empty: found, where it is needed."""
    split: str = ""
    """stratified, group or cross; empty: cross with a second data set, group with a group column, else stratified."""
    strategies: list[str] = Field(default_factory=lambda: ["pca_logistic", "frozen_probe", "head", "lora"])
    """Names of strategies."""
    checkpoint: str = "mini"  # after the strategies, which say whether it is used
    """A registered name or a folder in the official layout."""
    device: str = "auto"
    """Where the encoder computes: auto (CUDA where there is one, else the CPU), cpu, cuda or mps."""
    precision: str = "fp32"
    """Of its matrix products: fp32, bf16, or auto (bf16 where that pays)."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Of the split and of all training."""
    repeats: int = Field(default=0, ge=0, le=100)
    """Independent splits; 0 takes the profile's number, by group as many as test every group once."""
    budgets: list[int] = Field(default_factory=list)
    """Labelled cells per class of the label-efficiency study, such as 5, 10, 20, 50; empty: no such study."""
    withhold: bool = False
    """Withhold one class after the other from fitting, to see whether its cells stand out."""
    resume: bool = False
    """Take over what an interrupted run with the same settings had finished, with its seconds. In JupyterLab always."""
    held_out: str = ""
    """Group whose cells are annotated as new ones; empty: the test cells of the first split."""
    target: float = Field(default=0.95, ge=0.5, lt=1.0)
    """Accuracy that a kept model is to promise for what it answers."""
    output_dir: str = "artifacts/scgpt_cell_type_annotation"
    """Folder for the artifacts."""

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        get_profile(value)
        return value

    @field_validator("checkpoint")
    @classmethod
    def _known_checkpoint(cls, value: str, info: ValidationInfo) -> str:
        names = info.data.get("strategies")  # None where they are refused themselves
        refuse_unusable_checkpoint(value, build(names, checkpoint=value) if names else [])
        return value

    @field_validator("device")
    @classmethod
    def _usable_device(cls, value: str) -> str:
        if hold(Device, "device", value) not in ("auto", "cpu"):  # there without torch being asked
            from frostline.encoder.devices import device_of

            device_of(value)
        return value

    @field_validator("precision")
    @classmethod
    def _known_precision(cls, value: str) -> str:
        return str(hold(Precision, "precision", value))

    @field_validator("dataset", "test_dataset")
    @classmethod
    def _known_dataset(cls, value: str, info: ValidationInfo) -> str:
        if value or info.field_name == "dataset":
            refuse_unknown_source(value)
        return value

    @field_validator("values", "test_values")
    @classmethod
    def _known_values(cls, value: str) -> str:
        if value and value not in NAMES:
            raise unknown("kind of values", value, NAMES)
        return value

    @field_validator("split")
    @classmethod
    def _known_split(cls, value: str) -> str:
        if value and value not in KINDS:
            raise unknown("kind of split", value, KINDS)
        return value

    @field_validator("strategies", mode="before")
    @classmethod
    def _names_from_text(cls, value: object) -> object:
        """Papermill's command line can only pass text: accept `head,lora` and `["head", "lora"]`."""
        return list_of(value) if isinstance(value, str) else value

    @field_validator("budgets", mode="before")
    @classmethod
    def _numbers_from_text(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [int(part) if part.isdecimal() else part for part in list_of(value)]

    @field_validator("budgets")
    @classmethod
    def _at_least_two(cls, value: list[int]) -> list[int]:
        if any(budget < 2 for budget in value):
            raise ValueError("a budget holds training and validation cells, so at least 2 per class")
        return sorted(set(value))

    @field_validator("strategies")
    @classmethod
    def _known_strategies(cls, value: list[str]) -> list[str]:
        build(value)
        return value

    @field_validator("output_dir")
    @classmethod
    def _some_folder(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("name a folder")
        return value

    def load(self) -> Dataset:
        """Load the data set, joined with the second one if there is one.

        Examples
        --------
        >>> len(RunSettings().load())
        700
        """
        first = load_dataset(
            self.dataset,
            self.label_key or None,
            group_key=self.group_key or None,
            layer=self.layer or None,
            values=self.values or None,
            gene_column=self.gene_column or None,
        )
        if not self.test_dataset:
            return first
        label_key = self.test_label_key or (None if self.test_dataset in DATASETS else first.label_key)
        columns = {
            "layer": self.test_layer or None,
            "values": self.test_values or None,
            "gene_column": self.test_gene_column or None,
        }
        return join_datasets(first, load_dataset(self.test_dataset, label_key, **columns))

    def splits(self, dataset: Dataset) -> list[Split]:
        """Draw the splits of all repeats.

        Examples
        --------
        >>> settings = RunSettings(repeats=2)
        >>> [cut.repeat for cut in settings.splits(settings.load())]
        [0, 1]
        """
        profile = get_profile(self.profile)
        return [
            split(dataset, kind=self.split or None, seed=self.seed, profile=profile, repeat=repeat)
            for repeat in range(self.repeats or repeats_of(dataset, kind=self.split or None, profile=profile))
        ]

    def held_out_cells(self, dataset: Dataset) -> NDArray[np.int64]:
        """Row numbers of the cells that are annotated as new ones.

        Raises
        ------
        DatasetError
            There is no such group.

        Examples
        --------
        >>> settings = RunSettings(dataset="pancreas", held_out="human4")
        >>> len(settings.held_out_cells(settings.load()))
        23
        """
        if not self.held_out:
            return self.splits(dataset)[0].test
        groups = [] if dataset.groups is None else sorted(set(dataset.groups.tolist()))
        if self.held_out not in groups:
            known = f"{dataset.group_key} has: {', '.join(groups)}" if groups else "there are no groups"
            raise DatasetError(f"HELD_OUT is {self.held_out!r}, and {known}; name one of them, or leave it empty")
        return np.flatnonzero(dataset.groups == self.held_out)

    def build(self) -> list[Strategy]:
        """Build the strategies with the profile's training lengths and the checkpoint.

        Examples
        --------
        >>> [strategy.name for strategy in RunSettings(strategies=["head"]).build()]
        ['head']
        """
        place = {"device": self.device, "precision": self.precision}
        return build(self.strategies, profile=self.profile, checkpoint=self.checkpoint, **place)

    def of_dataset(self, dataset: Dataset) -> Self:
        """Return the settings with what a data set was loaded from, and how; a panel may have chosen another one.

        Examples
        --------
        >>> import frostline
        >>> ran = RunSettings(dataset="pancreas").of_dataset(frostline.load_dataset("pbmc68k-reduced"))
        >>> ran.dataset, ran.label_key, ran.layer, ran.group_key
        ('pbmc68k-reduced', 'bulk_labels', 'raw', '')
        """
        unsaid = ("layer", "values", "gene_column")
        data = {
            **dict.fromkeys((*unsaid, "test_dataset", "test_label_key", *(f"test_{name}" for name in unsaid)), ""),
            "dataset": dataset.name,
            "label_key": dataset.label_key,
            "group_key": dataset.group_key or "",
        }
        return self.model_copy(update=data | dict(dataset.given))

    @property
    def used_checkpoint(self) -> str | None:
        """The checkpoint, where a strategy starts from it; None where none does.

        Examples
        --------
        >>> RunSettings().used_checkpoint, RunSettings(strategies=["pca_knn"]).used_checkpoint
        ('mini', None)
        """
        return checkpoint_of(build(self.strategies, checkpoint=self.checkpoint))

    @classmethod
    def from_notebook(cls, names: Mapping[str, Any]) -> Self:
        """Read the upper-case variables of a notebook, as papermill sets them.

        Parameters
        ----------
        names
            `globals()` of the notebook.

        Raises
        ------
        FrostlineError
            A variable is no parameter, or has a wrong type or an unknown value; lists all of them.

        Examples
        --------
        >>> RunSettings.from_notebook({"PROFILE": "full", "SEED": 7}).seed
        7
        """
        given: dict[str, Any] = {
            name.lower(): _of_python(value) if name.lower() in cls.model_fields else value
            for name, value in names.items()
            if name.isupper()
            and not name.startswith("_")
            and (name.lower() in cls.model_fields or isinstance(value, VALUES))
        }
        # a lower-case name among papermill's would be a variable like any other, and go unnoticed
        lines = [f"{name}: unknown parameter" for name in _injected(names.get("In", ())) if not name.isupper()]
        settings = None
        try:
            settings = cls(**given)
        except ValidationError as error:
            lines += [f"{'.'.join(map(str, e['loc'])).upper()}: {_plain(e)}" for e in error.errors()]
        if settings is None or lines:
            fields = [name.upper() for name in cls.model_fields]
            # of a whole parameters cell its own, of some values all that there are
            whole = {"PROFILE", "OUTPUT_DIR"} <= set(names)
            known = ", ".join(name for name in fields if name in names or not whole)
            raise FrostlineError("; ".join(lines) + f". The parameters are: {known}")
        return settings


def _injected(sources: Sequence[str]) -> list[str]:
    """Names that papermill's injected cell assigns, by the kernel's record of what it was given to run."""
    cells = [ast.parse(source) for source in sources if source.startswith("# Parameters\n")]
    assigned = [node for cell in cells for node in cell.body if isinstance(node, ast.Assign)]
    return [target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)]


def _of_python(value: Any) -> Any:
    """Numbers, texts and lists of NumPy and pandas as Python's own; anything else as it is."""
    if isinstance(value, list):
        return [_of_python(each) for each in value]
    own = getattr(value, "tolist", None)
    return own() if callable(own) and getattr(value, "ndim", 0) < 2 else value


def _plain(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown parameter"
    given, name = error["input"], str(error["loc"][0])
    got = repr(given) if isinstance(given, VALUES) else f"an object of type {type(given).__name__}"
    if name.endswith("dataset") and hasattr(given, "write_h5ad"):
        got += f"; write it to a file, {name.upper()}.write_h5ad(path), and give the path"
    return f"{str(error['msg']).removeprefix('Value error, ')} (got {got})"
