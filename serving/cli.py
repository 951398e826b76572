"""The command line `foretune`: one thin command per stage; the stages themselves are imported when a command runs.

    foretune --help
    foretune rank zoo.yaml --task films.yaml

Results go to stdout, progress and messages to stderr. A mistake of the user's is one line and exit code 2, a failure one line and
exit code 1 (``FORETUNE_TRACEBACK=1``, or ``foretune --traceback ...``, shows where it came from).
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from features.errors import ForetuneError

INTERRUPTED = 130  # exit code

app = typer.Typer(
    name="foretune",
    help="Which of these pre-trained checkpoints will be best after fine-tuning on my task? Answered before anyone pays for it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        print(version("foretune"))
        raise typer.Exit


@app.callback()
def foretune(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the Python traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    if traceback:
        os.environ["FORETUNE_TRACEBACK"] = "1"


@app.command()
def demo(
    out: Annotated[str, typer.Option("--out", help="Folder for what the demo makes.")] = "foretune-demo",
) -> None:
    """The whole story in a few minutes, offline.

    Makes a zoo, measures it, ranks it, fine-tunes it and checks the ranking against the truth.

    \b
    Example:
      foretune demo
    """
    from pathlib import Path

    from serving.demo import demo as run

    run(Path(out))


def _assemble() -> None:
    from serving import cli_answer, cli_learn, cli_measure, cli_rows, cli_select

    for module in (cli_measure, cli_rows, cli_learn, cli_answer, cli_select):
        module.register(app)


_assemble()


def main() -> None:
    """Run the command line; the exit code tells the user's mistakes (2) from failures (1)."""
    shown = os.environ.get("FORETUNE_TRACEBACK", "") not in ("", "0") or "--traceback" in sys.argv
    if sys.stderr is None:  # closed by who called: messages would go where the results go
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 as long as the process lives
    try:
        app()
    except (SystemExit, KeyboardInterrupt) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:  # which is what Typer makes of a Ctrl-C
            raise
        print("foretune: interrupted; the same command measures and fine-tunes only what is not done yet", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except ForetuneError as error:
        if shown:
            raise
        print(f"foretune: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if shown:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"foretune: {place}{error.strerror or error}; can this place be read and written?", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if shown:
            raise
        line = (str(error).strip().splitlines() or [""])[0][:500]
        print(f"foretune: unexpected {type(error).__name__}: {line}; FORETUNE_TRACEBACK=1 shows where", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
