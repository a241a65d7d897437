"""CellMap: one or two maps of the same cells, to point at, to select in, and to take what is selected into Python."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from frostline.annotation.annotating import Annotation
from frostline.annotation.views import map_cells
from frostline.comparison.comparisons import Comparison
from frostline.errors import FrostlineError, unknown
from frostline.panels.mapped import Mapped, of_adata, of_annotation, of_comparison
from frostline.panels.packing import packed

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from frostline.cells.datasets import Dataset

HERE = Path(__file__).parent


UNPACKS = """// frostline/panels/cell_map.js, deflated: every page with a map keeps a copy. Browsers show the file.
const packed = Uint8Array.from(atob("{packed}"), (letter) => letter.charCodeAt(0));
const code = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")));
const address = URL.createObjectURL(new Blob([await code.text()], {{ type: "text/javascript" }}));
const {{ default: widget }} = await import(address);
URL.revokeObjectURL(address);
export default widget;
"""
"""Module that gives a browser the widget; its code takes two fifths of the room of what it unpacks."""


def script() -> str:
    """Code of the widget, in a module that unpacks it."""
    code = (HERE / "cell_map.js").read_bytes()
    return UNPACKS.format(packed=base64.b64encode(zlib.compress(code, 9)).decode())


class CellMap(anywidget.AnyWidget):
    """Maps of cells that answer: point at a cell, draw round some, and find them in Python.

    Parameters
    ----------
    source
        A Comparison: the test cells of its first split as two strategies represent and predict them. An AnnData or a
        Dataset: its cells, by coordinates in obsm. An Annotation: its cells among the labelled ones. None for an
        empty map, until `show`.
    left, right
        Strategies of a Comparison, by default the one that the verdict recommends and the best one that starts from an
        encoder; or keys of obsm.
    keys
        Of an AnnData: `label_key`, `predicted_key`, `confidence_key` and `group_key`, columns of obs.

    Attributes
    ----------
    selected
        Positions of the selected cells, a list in ascending order. Set it, and the picture follows.
    cells
        Their names, in the same order, so that `adata[map.cells]` are the selected cells. May be set, too.
    colour
        What the colours mean: `label`, `prediction`, `correct`, `confidence`, `group` or `reason`, as far as known.

    Raises
    ------
    FrostlineError
        A strategy, a key, a cell or a colouring is unknown, or there is nothing to map.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> shown = CellMap(pbmc)
    >>> shown.selected = [0, 5]
    >>> pbmc.adata[shown.cells].n_obs
    2
    """

    _esm = script()
    _css = (HERE / "cell_map.css").read_text(encoding="utf-8")
    _facts = traitlets.Dict().tag(sync=True)
    _data = traitlets.Bytes().tag(sync=True)
    _picked = traitlets.Bytes().tag(sync=True, from_json=lambda value, _: bytes(value))
    colour = traitlets.Unicode("label").tag(sync=True)
    selected = traitlets.Any()
    cells = traitlets.Any()

    def __init__(
        self,
        source: Comparison | AnnData | Dataset | Annotation | None = None,
        left: str | None = None,
        right: str | None = None,
        *,
        colour: str | None = None,
        **keys: str | None,
    ) -> None:
        self.mapped = Mapped("", (), (), (), ())
        super().__init__(selected=[], cells=[])
        if source is not None:
            self.show(source, left, right, **keys)
        if colour is not None:
            self.colour = colour

    def show(
        self,
        source: Comparison | AnnData | Dataset | Annotation,
        left: str | None = None,
        right: str | None = None,
        **keys: str | None,
    ) -> None:
        """Show other cells, or the same in other maps; the selection stays where the cells are the same.

        Parameters
        ----------
        source, left, right, keys
            As of the class.
        """
        if isinstance(source, Comparison):
            found = of_comparison(source, left, right)
        elif isinstance(source, Annotation):
            found = of_annotation(source, map_cells(source))
        else:
            found = of_adata(source, left, right, **keys)
        self.take(found)

    def take(self, found: Mapped) -> None:
        """Show what was prepared."""
        facts, data = packed(found)
        kept = self.selected if found.names == self.mapped.names else []
        self.mapped = found
        self.__dict__.pop("_places", None)
        with self.hold_sync():
            if self.colour not in dict(found.colourings):
                self.colour = found.colourings[0][0]
            self._data, self._facts = data, facts
            self.selected = kept

    def table(self) -> pd.DataFrame:
        """Return the selected cells, the most confidently wrong first, then the least confident.

        Returns
        -------
        pandas.DataFrame
            `position` and `cell`; then what is known of each: class, group, and predicted class and its probability by
            map, NA where there is none.
        """
        import pandas as pd

        found, rows = self.mapped, np.array(self.selected, dtype=int)
        rows = rows[self._ranks(rows)]
        columns: dict[str, Any] = {"position": rows, "cell": [found.names[i] for i in rows]}
        for column in found.columns:
            columns[column.title] = [column.names[code] if code >= 0 else None for code in column.codes[rows]]
        for view in found.views:
            if view.best is not None and view.chances is not None:
                best = view.best[rows, 0]
                columns[view.name] = [found.classes[code] if code >= 0 else None for code in best]
                columns[f"p of {view.name}"] = view.chances[rows, 0]
        return pd.DataFrame(columns)

    def _ranks(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Order of some cells: by falling confidence of a wrong prediction, then by rising least confidence."""
        found = self.mapped
        chances = np.full((len(rows), len(found.views)), np.nan)
        for i, view in enumerate(found.views):
            if view.chances is not None:
                chances[:, i] = view.chances[rows, 0]
        wrong = found.wrong()[rows]
        surest = np.where(wrong, np.nan_to_num(chances), -1.0).max(axis=1, initial=-1.0)
        least = np.where(np.isnan(chances), 2.0, chances).min(axis=1, initial=2.0)
        return np.lexsort((rows, np.where(surest >= 0, -1 - surest, least)))

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        """Name -> positions of the cells that bear it."""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self.mapped.names):
            places.setdefault(name, []).append(place)
        return places

    @traitlets.validate("selected")
    def _positions(self, proposal: dict[str, Any]) -> list[int]:
        given = np.asarray(proposal["value"])
        n = len(self.mapped.names)
        if given.size and given.dtype == bool and given.shape == (n,):
            return np.flatnonzero(given).tolist()
        if given.size and (given.dtype.kind not in "iu" or given.ndim != 1):
            raise FrostlineError(
                f"selected takes positions of cells, whole numbers, or (n_cells,) bools; not {proposal['value']!r:.80}"
            )
        outside = given[(given < 0) | (given >= n)] if given.size else given
        if outside.size:
            raise FrostlineError(f"there is no cell {outside[0]}: the map has the cells 0 to {n - 1}")
        positions: list[int] = np.unique(given.astype(int)).tolist()
        return positions

    @traitlets.validate("cells")
    def _names(self, proposal: dict[str, Any]) -> list[str]:
        value: Iterable[Any] = proposal["value"]
        if isinstance(value, str):
            raise FrostlineError(f"cells takes a list of names of cells; write [{value!r}]")
        names = dict.fromkeys(map(str, value))
        for name in names:
            if name not in self._places:
                raise unknown("cell", name, [*list(self._places)[:3], "..."])
        return [self.mapped.names[i] for i in sorted(i for name in names for i in self._places[name])]

    @traitlets.validate("colour")
    def _colouring(self, proposal: dict[str, Any]) -> str:
        known = dict(self.mapped.colourings)
        if known and proposal["value"] not in known:
            raise unknown("colouring", proposal["value"], known)
        return str(proposal["value"])

    @traitlets.observe("selected")
    def _from_selected(self, change: dict[str, Any]) -> None:
        self._picked = np.array(change["new"], dtype="<u4").tobytes()
        self.cells = [self.mapped.names[i] for i in change["new"]]

    @traitlets.observe("cells")
    def _from_cells(self, change: dict[str, Any]) -> None:
        if change["new"] != [self.mapped.names[i] for i in self.selected]:
            self.selected = [i for name in dict.fromkeys(change["new"]) for i in self._places[name]]

    @traitlets.observe("_picked")
    def _from_browser(self, change: dict[str, Any]) -> None:
        found = np.frombuffer(change["new"], dtype="<u4")
        self.selected = found[found < len(self.mapped.names)].tolist()  # the cells may have changed meanwhile
