"""The parameters of a run, as a notebook, a panel and the command line name them; checked before any work."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from frostline.checkpoints import load_checkpoint
from frostline.datasets import refuse_unknown_source
from frostline.errors import FrostlineError
from frostline.profiles import get_profile
from frostline.strategies import build

VALUES = (str, int, float, list, tuple, dict, set, Path, NoneType)
"""What a notebook's upper-case variable must hold to be taken for a parameter, right or wrong."""


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
    checkpoint: str = "mini"
    """A registered name or a folder in the official layout."""
    strategies: list[str] = Field(default_factory=lambda: ["pca_logistic", "frozen_probe", "head", "lora"])
    """Names of strategies."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Of the split and of all training."""
    output_dir: str = "artifacts/scgpt_cell_type_annotation"
    """Folder for the artifacts."""

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        get_profile(value)
        return value

    @field_validator("checkpoint")
    @classmethod
    def _known_checkpoint(cls, value: str) -> str:
        load_checkpoint(value)
        return value

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        refuse_unknown_source(value)
        return value

    @field_validator("strategies", mode="before")
    @classmethod
    def _from_commas(cls, value: object) -> object:
        """Papermill's command line can only pass text: accept `head,lora`."""
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

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
            name.lower(): value
            for name, value in names.items()
            if name.isupper() and not name.startswith("_") and isinstance(value, VALUES)
        }
        # a lower-case name among papermill's would be a variable like any other, and go unnoticed
        lines = [f"{name}: unknown parameter" for name in _injected(names.get("In", ())) if not name.isupper()]
        settings = None
        try:
            settings = cls(**given)
        except ValidationError as error:
            lines += [f"{'.'.join(map(str, e['loc'])).upper()}: {_plain(e)}" for e in error.errors()]
        if settings is None or lines:
            known = ", ".join(name.upper() for name in cls.model_fields)
            raise FrostlineError("; ".join(lines) + f". The parameters are: {known}")
        return settings


def _injected(sources: Sequence[str]) -> list[str]:
    """Names that papermill's injected cell assigns, by the kernel's record of what it was given to run."""
    cells = [ast.parse(source) for source in sources if source.startswith("# Parameters\n")]
    assigned = [node for cell in cells for node in cell.body if isinstance(node, ast.Assign)]
    return [target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)]


def _plain(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown parameter"
    return f"{str(error['msg']).removeprefix('Value error, ')} (got {error['input']!r})"
