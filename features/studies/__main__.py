"""The command line; see `features.studies`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from features.errors import ForetuneError
from features.studies.along import along_page
from features.studies.material import material
from features.studies.prompts import prompt_page
from features.studies.related import related
from features.studies.selection import selection
from features.studies.tasks import task_page
from features.zoo import Zoo


def main() -> None:
    """Read the arguments, make the page, write it."""
    parser = argparse.ArgumentParser(prog="python -m features.studies", description="Training dynamics on one's own checkpoints.")
    commands = parser.add_subparsers(dest="study", required=True)
    for name in ("selection", "relatedness", "prompts", "prompts-along", "tasks"):
        command = commands.add_parser(name)
        command.add_argument("-o", "--out", type=Path, required=True)
        command.add_argument("--html", action="store_true", help="the page as one HTML file too, its pictures in it")
        if name in ("prompts", "prompts-along", "tasks"):
            command.add_argument("tables", type=Path, nargs=1 if name == "tasks" else "+")
            continue
        if name == "selection":
            command.add_argument("zoo", type=Path)
            command.add_argument("--along", type=Path, nargs="*", default=[])
            command.add_argument("--designed-on", nargs="*", default=[], metavar="RUN", help="runs that are never ranked")
            command.add_argument("--repetitions", type=int, default=20)
            command.add_argument("--most", type=int, default=250, help="examples of each task")
        else:
            command.add_argument("runs", type=Path, nargs="+")
            command.add_argument("--pair", nargs=2, action="append", help="tasks that should be related; may be repeated")
            command.add_argument("--figures", default="", help="the run that the figures are of (default: the first)")
            command.add_argument("--apart", default="onestopenglish")
        command.add_argument("--task", type=Path, nargs="+", required=True)
        command.add_argument("--store", type=Path, required=True)
    given = parser.parse_args()
    try:
        if given.study == "selection":
            along = [Zoo.read(path) for path in given.along]
            found = material(Zoo.read(given.zoo), along, given.task, given.store, given.most)
            page = selection(found, repetitions=given.repetitions, designed=given.designed_on)
        elif given.study == "prompts":
            page = prompt_page(given.tables)
        elif given.study == "prompts-along":
            page = along_page(given.tables)
        elif given.study == "tasks":
            page = task_page(given.tables[0])
        else:
            runs = [Zoo.read(path) for path in given.runs]
            pairs = [(one, other) for one, other in given.pair or [("sst2", "imdb")]]
            page = related(runs, given.task, given.store, pairs=pairs, apart=given.apart, figures=given.figures)
        page.write(given.out, as_html=given.html)
    except ForetuneError as error:
        print(f"{error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
