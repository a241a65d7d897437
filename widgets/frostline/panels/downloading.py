"""A folder as one file through the browser: for who works in a JupyterLab on another machine."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import anywidget
import traitlets

MOST_BYTES = 300_000_000
"""Of what goes through the browser at once; it passes through memory three times."""

SAVE = """
export default {
  initialize({ model }) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([model.get("data")], { type: "application/zip" }));
    link.download = model.get("name");
    link.hidden = true;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    model.send({ kind: "saved" });
  },
};
"""


class Download(anywidget.AnyWidget):
    """Let the browser save bytes as a file, as soon as it has them.

    They are part of the message that opens the widget, which JupyterLab's limits on traffic leave alone. When the
    browser has them the widget closes, so that no notebook keeps them.

    Parameters
    ----------
    name
        Of the file.
    data
        What it holds.
    """

    _esm = SAVE
    name = traitlets.Unicode().tag(sync=True)
    data = traitlets.Bytes().tag(sync=True)

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(name=name, data=data)
        self.on_msg(lambda _widget, content, _buffers: self._heard(content))

    def _heard(self, content: Any) -> None:
        if content.get("kind") == "saved":
            self.close()


def zipped(folder: Path) -> bytes:
    """Return a folder as a ZIP that unpacks into one folder of its name.

    Parameters
    ----------
    folder
        Whose files are packed, those of folders in it too.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "results"
    >>> folder.mkdir()
    >>> _ = (folder / "a.txt").write_text("a")
    >>> zipfile.ZipFile(io.BytesIO(zipped(folder))).namelist()
    ['results/a.txt']
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(path, Path(folder.resolve().name) / path.relative_to(folder))
    return buffer.getvalue()
