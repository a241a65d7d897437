"""The command line: each command is a function of a module of this room, and is listed here.

`runs` executes notebooks and makes the book, `cells` works on data sets and queries, `encoders` on checkpoints.
"""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Annotated

import typer

from frostline import __version__
from frostline.cli import cells, encoders, runs
from frostline.cli.options import in_options
from frostline.errors import Cancelled, FrostlineError
from frostline.escaping import for_terminal
from frostline.interrupts import Ended, clearing_up

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Do I need to fine-tune a single-cell foundation model, and how deep?",
)
cache = typer.Typer(no_args_is_help=True, help="Embeddings that are kept on this machine.")
checkpoints = typer.Typer(no_args_is_help=True, help="The checkpoints that frostline knows.")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


for command in (
    runs.run,
    runs.tutorials,
    cells.datasets,
    cells.inspect,
    runs.check,
    runs.publish,
    runs.book,
    runs.init,
    runs.lab,
    cells.embed,
    cells.adapt,
    cells.annotate,
    encoders.pretrain,
    runs.sweep,
    encoders.strategies,
):
    app.command()(command)
app.add_typer(cache, name="cache")
app.add_typer(checkpoints, name="checkpoints")
cache.command("list")(encoders.list_cache)
cache.command("clear")(encoders.clear_cache)
checkpoints.command("list")(encoders.list_checkpoints)
checkpoints.command("download")(encoders.download)
checkpoints.command("verify")(encoders.verify)
checkpoints.command("path")(encoders.checkpoint_path)


def main() -> None:
    """Run the command line; errors of the input are shown without a traceback."""
    atexit.register(gc.freeze)  # the last thing done: to look for garbage among all modules takes a second or two
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # what a terminal of few characters cannot show
    try:
        with clearing_up():
            app()
    except FrostlineError as error:
        said = in_options(str(error), "".join(sys.argv[1:2]))
        print(f"error: {for_terminal(said)}", file=sys.stderr)
        sys.exit(1)
    except Ended as end:
        print("ended by another process", file=sys.stderr)
        sys.exit(end.code)
    except (Cancelled, KeyboardInterrupt):
        print("cancelled", file=sys.stderr)
        sys.exit(130)
    except SystemExit as end:
        if end.code == 130:  # typer's answer to Ctrl-C
            print("cancelled", file=sys.stderr)
        raise
