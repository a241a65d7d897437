"""The grid of a sweep: what SWEEP.yml may say, and the combinations that it stands for.

Every axis is a list, and a combination takes one value of each. `AXES` says which parameter of the notebook it sets.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from frostline.errors import FrostlineError
from frostline.plain_files import problems_of
from frostline.publishing.inputs import WRITTEN

AXES = {
    "datasets": "DATASET",
    "profiles": "PROFILE",
    "checkpoints": "CHECKPOINT",
    "strategies": "STRATEGIES",
    "seeds": "SEED",
}
"""Axis of the grid -> parameter of the notebook."""
_EXTRA = "Extra inputs are not permitted"
KINDS = (str, int, float, bool)


def _named(value: object) -> object:
    """A data set that is a text is the value of its parameter."""
    return {AXES["datasets"]: value} if isinstance(value, str) else value


def _listed(value: object) -> object:
    """A strategy that is a text is a list of one."""
    return [value] if isinstance(value, str) else value


def _plain(value: object) -> object:
    """Refuse what papermill has no parameter for."""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, KINDS) for part in parts):
        raise ValueError("a value is a text, a number, true or false, or a list of these")
    return value


def _each_once(values: list[Any]) -> list[Any]:
    for i, value in enumerate(values):
        if any(value == other and type(value) is type(other) for other in values[:i]):
            raise ValueError(f"{value!r} stands there twice")
    return values


Value = Annotated[Any, AfterValidator(_plain)]
Once = AfterValidator(_each_once)
Some = Field(min_length=1)
DatasetValues = Annotated[dict[str, Value], Some, BeforeValidator(_named)]
Names = Annotated[list[str], Some, BeforeValidator(_listed)]


class Grid(BaseModel):
    """What SWEEP.yml says.

    Examples
    --------
    >>> grid = Grid(datasets=["pancreas"], strategies=["lora", ["head", "pca_knn"]], seeds=[1, 2])
    >>> [combination["STRATEGIES"] for combination in grid.combinations()]
    [['lora'], ['lora'], ['head', 'pca_knn'], ['head', 'pca_knn']]
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    notebook: str = "cell_type_annotation"
    """Name of a tutorial, or path of a notebook."""
    datasets: Annotated[list[DatasetValues], Some, Once] = []
    """Names, paths, or parameters of one data set together, such as {DATASET: a.h5ad, LABEL_KEY: kind}."""
    profiles: Annotated[list[str], Some, Once] = []
    checkpoints: Annotated[list[str], Some, Once] = []
    strategies: Annotated[list[Names], Some, Once] = []
    """Each is a run of its own; a list of several is one run of them."""
    seeds: Annotated[list[int], Some, Once] = []
    parameters: dict[str, Annotated[list[Value], Some, Once]] = {}
    """Any other parameter of the notebook, each with the list of its values."""
    exclude: list[Annotated[dict[str, Value], Some]] = []
    """Combinations that are left out: those that have all values of one entry."""

    @field_validator("datasets")
    @classmethod
    def _not_the_folder(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(WRITTEN in each for each in value):
            raise ValueError(f"{WRITTEN} is chosen for each run; leave it out")
        return value

    @field_validator("profiles", "checkpoints", "strategies", "seeds")
    @classmethod
    def _not_of_data(cls, value: list[Any], info: ValidationInfo) -> list[Any]:
        name = AXES[str(info.field_name)]
        for i, each in enumerate(info.data.get("datasets", ())):
            if name in each:
                raise ValueError(f"{name} is set by datasets.{i} already; leave one of the two out")
        return value

    @field_validator("parameters")
    @classmethod
    def _set_once(cls, value: dict[str, list[Any]], info: ValidationInfo) -> dict[str, list[Any]]:
        taken = {name: axis for axis, name in AXES.items() if info.data.get(axis)}
        taken |= {name: f"datasets.{i}" for i, each in enumerate(info.data.get("datasets", ())) for name in each}
        for name in value:
            if name in taken:
                raise ValueError(f"{name} is set by {taken[name]} already; leave one of the two out")
            if name == WRITTEN:
                raise ValueError(f"{name} is chosen for each run; leave it out")
        return value

    def _axes(self) -> Iterator[tuple[str | None, list[Any]]]:
        """Parameter that an axis sets, and its values; None for data sets, which name theirs themselves."""
        for axis, name in AXES.items():
            if getattr(self, axis):
                yield None if axis == "datasets" else name, getattr(self, axis)
        yield from self.parameters.items()

    @property
    def places(self) -> dict[str, str]:
        """Parameters of the notebook that the grid sets, and where in the file.

        Examples
        --------
        >>> Grid(seeds=[1], parameters={"REPEATS": [3]}).places
        {'SEED': 'seeds', 'REPEATS': 'parameters.REPEATS'}
        """
        of_data = {name: f"datasets.{i}" for i, each in enumerate(self.datasets) for name in each}
        of_axes = {name: axis for axis, name in AXES.items() if getattr(self, axis) and axis != "datasets"}
        return {**of_data, **of_axes, **{name: f"parameters.{name}" for name in self.parameters}}

    def combinations(self) -> list[dict[str, Any]]:
        """Parameters of every run, exclusions left out, in the order of the file.

        Raises
        ------
        FrostlineError
            An exclusion matches no combination, so that it excludes nothing; or all of them leave none.
        """
        axes = [[value if name is None else {name: value} for value in values] for name, values in self._axes()]
        found = [{name: part[name] for part in parts for name in part} for parts in itertools.product(*axes)]
        for i, wanted in enumerate(self.exclude):
            if not any(_matches(each, wanted) for each in found):
                raise FrostlineError(
                    f"exclude.{i}: {wanted} matches no combination; write parameters ({', '.join(self.places)}) with "
                    "values of the grid"
                )
        left = [each for each in found if not any(_matches(each, wanted) for wanted in self.exclude)]
        if not left:
            raise FrostlineError(f"exclude: leaves out all {len(found)} combinations; leave an entry of it out")
        return left


def _matches(combination: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(name in combination and _is_among(combination[name], value) for name, value in wanted.items())


def _is_among(value: object, wanted: object) -> bool:
    """Whether a value is the wanted one, or one of several; of a list of strategies, whether it is a part of it."""
    if isinstance(value, list):
        return value == wanted or wanted in value
    return value in wanted if isinstance(wanted, list) else value == wanted


def read_grid(path: Path) -> Grid:
    """Read SWEEP.yml.

    Raises
    ------
    FrostlineError
        It cannot be read, or says something that no sweep has; names each field and the value.

    Examples
    --------
    >>> read_grid(Path("no-such.yml"))
    Traceback (most recent call last):
    ...
    frostline.errors.FrostlineError: no-such.yml cannot be read: No such file or directory
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        _refuse_twice(yaml.compose(text, yaml.SafeLoader))
        content = yaml.safe_load(text)
    except OSError as error:
        raise FrostlineError(f"{path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise FrostlineError(
            f"{path} is no YAML of a sweep: it is nested too deeply, or an alias holds itself"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise FrostlineError(f"{path} is no YAML of a sweep: {' '.join(str(error).split())}") from error
    fields = ", ".join(Grid.model_fields)
    if not isinstance(content, dict):
        raise FrostlineError(f"{path} holds {content!r:.40}, where a sweep has fields: {fields}")
    try:
        return Grid.model_validate({str(key): value for key, value in content.items()})
    except ValidationError as error:
        said = "; ".join(problems_of(error)).replace("Value error, ", "").replace(_EXTRA, "no field of a sweep")
        raise FrostlineError(f"{path}: {said}. The fields are: {fields}") from error


def _refuse_twice(node: Any) -> None:
    """Refuse a field that stands in the file twice: YAML would take the last one without a word."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} stands there twice, in line {node.start_mark.line + 1} or below")
    if isinstance(node, yaml.MappingNode | yaml.SequenceNode):
        for child in node.value:
            _refuse_twice(child[1] if isinstance(child, tuple) else child)
