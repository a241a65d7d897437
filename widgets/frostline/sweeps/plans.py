"""From a grid to runs: each with parameters, a folder and a command of its own, and a key by which it is known again.

The key is a hash of all that decides the result: the notebook, its parameters, the files that these name, frostline's
code and the packages. It is part of the name of the folder, so that a run with anything changed is another run.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.errors import FrostlineError
from frostline.escaping import for_file_name
from frostline.hashes import file_sha256
from frostline.plain_files import expanded
from frostline.publishing.inputs import WRITTEN, inputs_of
from frostline.publishing.notebooks import Parameter, find_notebook, notebook_parameters
from frostline.settings import RunSettings
from frostline.sweeps.grids import AXES, Grid, read_grid

if TYPE_CHECKING:
    from frostline.strategies import Strategy

FOLDER = Path("sweeps")
"""Where the folders of sweeps go, by default."""
SCHEDULER = "SCHEDULER"
"""Parameter of a notebook that works on Dask itself: it is given the address of the one cluster of the sweep."""
DEVICE = "DEVICE"
"""Parameter of a notebook that says where its encoder computes."""
RUNS = "runs"
"""In the folder of a sweep: the folders of its runs, which a workflow makes too."""
ARTIFACTS, LOG = "artifacts", "log.txt"
"""In the folder of a run: what its notebook leaves, and what every attempt has printed."""
LONGEST = 100
"""Characters of a run's name, its key aside."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    name: str
    folder: Path
    """Relative to the current folder, as are all paths."""
    notebook: str
    """As the grid names it."""
    given: Mapping[str, Any]
    """Parameters that the grid sets."""
    values: Mapping[str, Any]
    """All of them, defaults included; the folder that is written aside."""
    key: str
    """sha256 of what decides the result."""
    notebook_sha256: str
    """Of the notebook's file."""
    embedding: tuple[str, ...] | None = None
    """Data set and checkpoint of the frozen embedding that it reads, which runs share on disk; None without one."""
    takes_scheduler: bool = False
    """Whether its notebook works on a cluster itself."""
    device: str = "auto"
    """Where its strategies compute: cpu if none of them reads an encoder, else what it asks for."""

    @property
    def artifacts(self) -> Path:
        """Where the notebook puts its artifacts."""
        return self.folder / ARTIFACTS

    @property
    def executed(self) -> Path:
        """The executed notebook, which is there when it came to its end."""
        return self.folder / "notebook.ipynb"

    @property
    def log(self) -> Path:
        """What every attempt has printed."""
        return self.folder / LOG

    @property
    def arguments(self) -> list[str]:
        """What `frostline` is called with."""
        pairs = [f"{name}={_as_text(value)}" for name, value in {**self.given, WRITTEN: str(self.artifacts)}.items()]
        options = [word for pair in pairs for word in ("-p", pair)]
        return ["run", self.notebook, *options, "-o", str(self.executed)]

    @property
    def command(self) -> str:
        """The same as somebody types it."""
        return shlex.join(["frostline", *self.arguments])


@dataclass(frozen=True)
class Plan:
    """All runs of a sweep."""

    grid: Grid
    folder: Path
    runs: tuple[PlannedRun, ...]
    alike: int = 0
    """Combinations left out since they differ from another one in a checkpoint that they do not read."""

    @property
    def name(self) -> str:
        """Of the sweep."""
        return self.folder.name

    def __str__(self) -> str:
        said = f"{len(self.runs)} run{'s' * (len(self.runs) != 1)} of {self.grid.notebook} in {self.folder / RUNS}"
        return (
            f"{said}; {self.alike} more would differ only in a checkpoint that they do not read" if self.alike else said
        )


def plan(source: str | Path | Grid, folder: str | Path | None = None) -> Plan:
    """Expand a grid into runs; all that can be wrong with it is said here, before anything runs.

    Parameters
    ----------
    source
        Path of SWEEP.yml, or what it would say.
    folder
        Where runs and results go; sweeps/NAME for NAME.yml if None.

    Raises
    ------
    FrostlineError
        The file or a parameter is wrong; names the field and the value. That a data set is not there is no error here:
        its runs will fail.

    Examples
    --------
    >>> found = plan(Grid(datasets=["pancreas"], strategies=["majority", "pca_logistic"], seeds=[1, 2]), "sweeps/first")
    >>> len(found.runs), found.runs[0].name[:39]
    (4, 'pancreas-quickstart-mini-majority-seed1')
    """
    grid = source if isinstance(source, Grid) else read_grid(expanded(source))
    if folder is None:
        if isinstance(source, Grid):
            raise FrostlineError("a grid that is no file has no name: say in which folder its runs go")
        folder = FOLDER / for_file_name(Path(source).stem)
    where = "" if isinstance(source, Grid) else f"{source}: "
    folder, notebook = expanded(folder), find_notebook(grid.notebook)
    known = notebook_parameters(notebook)
    try:
        _refuse_other_kinds(grid, known)
        given = grid.combinations()
        for values in given:
            whole = {name: spec.default for name, spec in known.items()} | values
            RunSettings.from_notebook({name: value for name, value in whole.items() if _is_checked(name)})
    except FrostlineError as error:
        raise FrostlineError(f"{where}{error}") from error
    defaults = {name: spec.default for name, spec in known.items() if name not in (WRITTEN, SCHEDULER)}
    distinct = _without_alike(given, defaults)
    namer = _Namer(notebook, [defaults | values for values in distinct], takes_scheduler=SCHEDULER in known)
    runs = [namer.run(folder, grid.notebook, values, defaults | values) for values in distinct]
    return Plan(grid, folder, tuple(runs), len(given) - len(distinct))


def _is_checked(name: str) -> bool:
    """Whether a wrong value is an error at once: that a file is not there says the run."""
    return name.lower() in RunSettings.model_fields and name not in (AXES["datasets"], "TEST_DATASET")


def _refuse_other_kinds(grid: Grid, known: Mapping[str, Parameter]) -> None:
    """Refuse parameters that the notebook lacks, and values of another type than it annotates."""
    if WRITTEN not in known:
        raise FrostlineError(f"{grid.notebook} has no parameter {WRITTEN}, and so no artifacts to check")
    for name, place in grid.places.items():
        if name not in known:
            raise FrostlineError(f"{place}: {grid.notebook} has no parameter {name}; it has {', '.join(known)}")
    for combination in grid.model_copy(update={"exclude": []}).combinations():
        for name, value in combination.items():
            if not _is_of(known[name].kind, value):
                hint = "; for a list write [[...], [...]]" if known[name].kind.startswith("list[") else ""
                raise FrostlineError(f"{grid.places[name]}: {name} is of type {known[name].kind}, got {value!r}{hint}")


_KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def _is_of(kind: str, value: object) -> bool:
    if kind.startswith("list["):
        inner = kind.removeprefix("list[").removesuffix("]")
        return isinstance(value, list) and all(_is_of(inner, part) for part in value)
    fits = _KINDS.get(kind)
    return fits is None or (isinstance(value, fits) and (bool in fits or not isinstance(value, bool)))


def _strategies(values: Mapping[str, Any]) -> list[Strategy]:
    from frostline.strategies import build

    names = values.get(AXES["strategies"])
    return build(names, checkpoint=values.get(AXES["checkpoints"], "mini")) if names else []


def _reads_checkpoint(values: Mapping[str, Any]) -> bool:
    """Whether a run with these parameters reads its checkpoint, as far as its strategies tell."""
    from frostline.strategies import checkpoint_of

    return AXES["strategies"] not in values or checkpoint_of(_strategies(values)) is not None


def _embedding(values: Mapping[str, Any]) -> tuple[str, ...] | None:
    from frostline.strategies.encoder import EncoderStrategy
    from frostline.strategies.tuning import EncoderTuning

    if not any(
        isinstance(each, EncoderStrategy) and not isinstance(each, EncoderTuning) for each in _strategies(values)
    ):
        return None
    return tuple(str(values.get(AXES[axis], "")) for axis in ("datasets", "checkpoints"))


def _without_alike(given: Sequence[dict[str, Any]], defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Leave out what differs from an earlier combination only in a checkpoint that is not read."""
    found: dict[str, dict[str, Any]] = {}
    for values in given:
        unread = not _reads_checkpoint({**defaults, **values})
        said = {name: value for name, value in values.items() if not (unread and name == AXES["checkpoints"])}
        found.setdefault(json.dumps(said, sort_keys=True), values)
    return list(found.values())


class _Namer:
    """Makes runs of parameters; every file that any of them names is hashed once."""

    def __init__(self, notebook: Path, all_values: Iterable[Mapping[str, Any]], *, takes_scheduler: bool) -> None:
        texts = {value for values in all_values for value in values.values() if isinstance(value, str)}
        inputs = inputs_of({str(i): text for i, text in enumerate(sorted(texts))}, Path())
        self._data = inputs.pop("data")
        self._fixed = {**inputs, "notebook": file_sha256(notebook)}
        self._takes_scheduler = takes_scheduler

    def run(self, folder: Path, notebook: str, given: Mapping[str, Any], values: Mapping[str, Any]) -> PlannedRun:
        """Make one run."""
        data = {name: self._data[value] for name, value in values.items() if self._data.get(str(value))}
        content = {**self._fixed, "parameters": dict(values), "data": data}
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        name = f"{_slug(values)}-{key[:10]}"
        return PlannedRun(
            name=name,
            folder=folder / RUNS / name,
            notebook=notebook,
            given=dict(given),
            values=dict(values),
            key=key,
            notebook_sha256=str(self._fixed["notebook"]),
            embedding=_embedding(values),
            takes_scheduler=self._takes_scheduler and SCHEDULER not in given,
            device=str(values.get(DEVICE, "auto")) if _reads_checkpoint(values) else "cpu",
        )


def _slug(values: Mapping[str, Any]) -> str:
    """The main parameters in a few characters."""
    parts = []
    for axis, name in AXES.items():
        if name in values:
            value = values[name]
            text = "+".join(map(str, value)) if isinstance(value, list) else Path(str(value)).stem
            parts.append(f"seed{text}" if axis == "seeds" else for_file_name(text))
    return "-".join(parts)[:LONGEST] or "run"


def _as_text(value: Any) -> str:
    """Value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
