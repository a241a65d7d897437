"""What the panels share: their look, messages that are announced, work beside the kernel's main thread."""

from __future__ import annotations

import atexit
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ipywidgets as widgets

from frostline.comparison.glossary import explained
from frostline.escaping import for_html, html_table
from frostline.panels.wording import COMPARING, Rules, for_panel
from frostline.records import Finding

STYLE = """<style>
.frostline-panel {--frostline-line: var(--jp-border-color2, #9e9e9e);
  --frostline-text: var(--jp-ui-font-color1, #212121); --frostline-quiet: var(--jp-ui-font-color1, #424242);
  color: var(--frostline-text); padding: 4px 2px; overflow: hidden}
.frostline-panel .widget-html-content, .frostline-panel .jupyter-widgets-html-content {color: var(--frostline-text);
  line-height: 1.45; overflow-x: auto}
.frostline-panel:is(.frostline-plan-panel, .frostline-keep-panel) {padding: 0}
.frostline-panel .frostline-title {font-size: 1.15em; font-weight: 600; border-bottom: 1px solid var(--frostline-line);
  padding: 6px 0 2px}
.frostline-panel .frostline-quiet {color: var(--frostline-quiet); font-size: 0.92em}
.frostline-panel .widget-checkbox {height: auto; min-height: 28px; align-items: center}
.frostline-panel .widget-checkbox label, .frostline-panel .widget-label-basic {white-space: normal; height: auto;
  line-height: 1.3; display: flex; align-items: center}
.frostline-panel .widget-checkbox input {flex: none; margin: 0 8px 0 0}
.frostline-panel select:not([size]) {background-image: \
url('data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 18 18">\
<path d="M5 7l4 4 4-4" fill="none" stroke="%23808080" stroke-width="2"/></svg>') !important}
.frostline-panel :is(table, thead, tbody, tr) {background: transparent !important; color: var(--frostline-text)}
.frostline-panel table {border-collapse: collapse; font-size: 0.92em; margin: 4px 0; color: var(--frostline-text)}
.frostline-panel table :is(th, td) {padding: 3px 9px; text-align: left; vertical-align: top;
  background: transparent !important; color: var(--frostline-text) !important;
  border-bottom: 1px solid var(--frostline-line); white-space: normal}
.frostline-panel table.frostline-numbers :is(th, td):not(:first-child) {text-align: right}
.frostline-panel table.frostline-numbers td {white-space: nowrap}
.frostline-panel table.frostline-verdicts :is(th, td) {padding: 3px 5px}
.frostline-panel table.frostline-verdicts td:first-child {white-space: normal}
.frostline-panel table.frostline-verdicts :is(th, td):last-child {white-space: normal; min-width: 13em;
  text-align: left}
.frostline-panel table.frostline-leaderboard :is(th, td) {padding: 3px 6px !important}
.frostline-panel table.frostline-leaderboard td {white-space: nowrap}
.frostline-panel .frostline-terms {font-size: 0.92em}
.frostline-panel .frostline-terms dt {font-weight: 600}
.frostline-panel .frostline-terms dd {margin: 0 0 4px 1.2em}
.frostline-panel table.frostline-words td:first-child {white-space: nowrap}
.frostline-panel caption {text-align: left; padding: 2px 9px; caption-side: top}
.frostline-panel img {background: #fff; border-radius: 3px; padding: 4px; max-width: 100%; box-sizing: border-box}
.frostline-panel .frostline-alert {border: 1px solid #d55e00; border-left-width: 5px; padding: 0.5em 1em; margin: 4px 0}
.frostline-panel .frostline-note {border: 1px solid var(--frostline-line); border-left: 5px solid #0072b2;
  padding: 0.4em 1em; margin: 4px 0}
.frostline-panel .frostline-stale,
.frostline-panel .frostline-partial {border: 1px solid #e69f00; border-left-width: 5px; padding: 0.4em 1em;
  margin: 4px 0}
.frostline-panel .frostline-bar {display: inline-block; height: 0.75em; background: #0072b2; border-radius: 1px}
.frostline-panel pre {white-space: pre-wrap; color: var(--frostline-text); background: transparent}
.frostline-panel .lm-TabBar-content {flex-wrap: wrap !important}
.frostline-panel .lm-TabBar-tab {flex: 0 1 auto !important; min-width: 0 !important}
.frostline-panel .lm-TabBar-tab {color: var(--frostline-text) !important}
.frostline-panel .frostline-row {border-bottom: 1px solid var(--frostline-line); align-items: center}
.frostline-panel .frostline-row.frostline-failed {border-left: 5px solid #d55e00; padding-left: 6px;
  background: rgba(213, 94, 0, 0.1)}
.frostline-panel abbr {cursor: help}
.frostline-panel :is(button, input, select):focus-visible {outline: 2px solid #0072b2 !important; outline-offset: 1px}
</style>"""


def wide() -> widgets.Layout:
    """Layout of a control that is as wide as it needs to be; one each, so that it can be closed with it."""
    return widgets.Layout(width="auto")


def at_most(pixels: int) -> widgets.Layout:
    """Layout of a control that is narrower where there is no room."""
    return widgets.Layout(width=f"min(100%, {pixels}px)")


def title(text: str) -> widgets.HTML:
    """Heading of a part of a panel."""
    return widgets.HTML(f'<div class="frostline-title" role="heading" aria-level="3">{for_html(text)}</div>')


def status(text: str) -> str:
    """Words that a screen reader announces when they change."""
    return f'<span role="status" aria-live="polite">{for_html(text)}</span>'


def alert(error: BaseException, heading: str = "", rules: Rules = COMPARING) -> str:
    """Say what went wrong in plain words and with the panel's own controls, with the traceback to unfold."""
    details = for_html("".join(traceback.format_exception(error)))
    kind, said = heading or type(error).__name__, for_panel(str(error), rules)
    return (
        f'<div role="alert" class="frostline-alert"><strong>{for_html(kind)}</strong>: {for_html(said)}'
        f"<details><summary>Details</summary><pre>{details}</pre></details></div>"
    )


def note(text: str, kind: str = "note") -> str:
    """Words in a box: `note` or `stale`."""
    return f'<div role="status" class="frostline-{kind}">{for_html(text)}</div>'


SEVERITY_MARKS = {"error": "✖", "warning": "▲", "note": "●"}


def findings_html(findings: Sequence[Finding]) -> str:
    """Return what the checks found, the gravest first, each with its reason and remedy to unfold."""
    if not findings:
        return '<div class="frostline-quiet">The checks found nothing.</div>'
    items = "".join(
        f"<details><summary><strong>{SEVERITY_MARKS[f.severity]} {f.severity}</strong>: "
        f"{for_html(f.title)}</summary>"
        f"<div style='padding-left:1.2em'>{for_html(f.explanation)} <em>{for_html(for_panel(f.remedy))}</em></div>"
        "</details>"
        for f in findings
    )
    return f'<div class="frostline-note" role="status"><div>Before you believe any number:</div>{items}</div>'


def table(frame: Any, caption: str, kind: str = "numbers") -> str:
    """Table of text: the first column to the left, `numbers` to the right, `words` to the left and wrapped."""
    head, _, rest = html_table(frame, f"frostline-{kind}").partition(">")
    return explained(f"{head}><caption class='frostline-quiet'>{for_html(caption)}</caption>{rest}")


def walk(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    """Yield a widget and all below it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


AT_THE_END = 20.0
"""Seconds that the end of Python waits for what is being done: torch aborts where its thread is cut off."""
_at_work: weakref.WeakSet[Background] = weakref.WeakSet()


@atexit.register
def _end_work() -> None:
    """Let what is being done end before Python does, and begin nothing new."""
    for background in list(_at_work):
        background.close()
        background._idle.wait(AT_THE_END)


class Background:
    """Work beside the kernel's main thread, one piece after the other, in a thread that ends when there is none.

    A piece replaces one of the same name that has not begun.

    Parameters
    ----------
    failed
        Receives what a piece of work raises.

    Examples
    --------
    >>> background = Background()
    >>> background.do("count", lambda: print("counted"))
    >>> background.settle()
    counted
    """

    def __init__(self, failed: Callable[[BaseException], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._failed = failed or (lambda _error: None)
        self._waiting: dict[str, Callable[[], None]] = {}
        self._idle = threading.Event()
        self._idle.set()
        self.closed = False
        _at_work.add(self)

    def do(self, name: str, work: Callable[[], None]) -> None:
        """Do it soon."""
        with self._lock:
            if self.closed:
                return
            self._waiting.pop(name, None)
            self._waiting[name] = work
            if self._idle.is_set():
                threading.Thread(target=self._drain, name="frostline-panel", daemon=True).start()
                self._idle.clear()  # before the thread has the lock

    def drop(self, name: str) -> None:
        """Forget work of this name that has not begun."""
        with self._lock:
            self._waiting.pop(name, None)

    def waits(self, name: str) -> bool:
        """Whether newer work of this name is waiting, so that the one that is being done is out of date."""
        with self._lock:
            return name in self._waiting or self.closed

    @property
    def is_busy(self) -> bool:
        """Whether something is being done, or waits."""
        return not self._idle.is_set()

    def settle(self, timeout: float | None = None) -> None:
        """Wait until nothing is left to do.

        Raises
        ------
        TimeoutError
            It is not done in time.
        """
        if not self._idle.wait(timeout):
            raise TimeoutError(f"the panel is still at work after {timeout} s")

    def close(self) -> None:
        """Take no more work and forget what waits; what is being done ends by itself."""
        with self._lock:
            self.closed = True
            self._waiting.clear()

    def _drain(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except BaseException as error:  # nobody would see the traceback of a thread
                try:
                    self._failed(error)
                except BaseException:  # such as a browser that nothing can be sent to: settle would wait for ever
                    traceback.print_exc()

    def _next(self) -> Callable[[], None] | None:
        """Take the piece that has waited longest; None where none does."""
        with self._lock:
            if not self._waiting:
                self._idle.set()
                return None
            return self._waiting.pop(next(iter(self._waiting)))


class Panel(widgets.VBox):  # type: ignore[misc]
    """A part of a panel, or all of it.

    When a notebook cell is run again, the panels that it had made before are closed: their runs are cancelled,
    and their widgets let go.
    """

    def __init__(self, children: list[widgets.Widget], css_class: str) -> None:
        keep_messages()
        self.background = Background(self._tell_failure)
        self._alert = widgets.HTML()
        super().__init__([widgets.HTML(STYLE), *children, self._alert])
        self.add_class("frostline-panel")
        self.add_class(css_class)

    def _tell_failure(self, error: BaseException) -> None:
        self._alert.value = alert(error)

    def _over(self, state: str, error: BaseException | None) -> None:
        """Say how a run has ended: both hold before anybody is notified, which fails where nothing can be shown."""
        with self.hold_trait_notifications():
            self.set_trait("error", error)
            self.set_trait("state", state)

    def settle(self, timeout: float | None = None) -> None:
        """Wait until everything is shown that is being worked out beside the notebook."""
        at_work = [widget.background for widget in walk(self) if isinstance(widget, Panel)]
        while any(background.is_busy for background in at_work):  # the work of one may be the beginning of another's
            for background in at_work:
                background.settle(timeout)

    def _stop(self) -> None:
        """Stop what runs when the panel is closed."""

    def close(self) -> None:
        """Let go of everything: work that runs or waits, widgets, results."""
        if not hasattr(self, "background"):  # it was refused before it was made
            return
        self._stop()
        self.background.close()
        below = list(walk(self))[1:]
        self.children = ()
        for widget in below:
            if isinstance(widget, Panel):
                widget.close()
            for part in (*(getattr(widget, name, None) for name in ("layout", "style")), widget):
                if isinstance(part, widgets.Widget):
                    part.unobserve_all()
                    widgets.Widget.close(part)
        self.unobserve_all()
        for part in (self.layout, self):
            widgets.Widget.close(part)


def keep_messages() -> None:
    """Let the kernel keep what it says of widgets until the server takes it, however much that is.

    By default ZeroMQ drops what is said while 1,000 messages wait (its documentation of ZMQ_SNDHWM). A panel and the
    one that it replaces are 1,300: on a busy machine some were lost, and a panel with a part missing is never shown.
    """
    from IPython import get_ipython

    thread: Any = getattr(getattr(get_ipython(), "kernel", None), "iopub_thread", None)
    socket = getattr(thread, "socket", None)
    if hasattr(socket, "sndhwm"):
        thread.schedule(lambda: setattr(socket, "sndhwm", 0))  # a socket belongs to its thread


_of_cells: dict[str, tuple[str, list[weakref.ref[Panel]]]] = {}
"""Notebook cell -> the execution that is going on, and the panels that it has made."""


def replace_earlier(panel: Panel) -> None:
    """Close the panels that an earlier execution of the same notebook cell made."""
    cell, execution = _where()
    if cell is None:
        return
    before, made = _of_cells.get(cell, (execution, []))
    if before != execution:
        for reference in made:
            earlier = reference()
            if earlier is not None:
                earlier.close()
        made = []
    _of_cells[cell] = (execution, [*made, weakref.ref(panel)])


def in_a_lab() -> bool:
    """Whether a person's JupyterLab runs the code: it names the cell, which papermill and scripts do not."""
    return _where()[0] is not None


def _where() -> tuple[str | None, str]:
    """Id of the notebook cell that is being run, None outside notebooks, and of its execution."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell, "get_parent"):
        return None, ""
    parent = shell.get_parent()
    cell = parent.get("metadata", {}).get("cellId")
    return cell, str(parent.get("header", {}).get("msg_id", ""))
