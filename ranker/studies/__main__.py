"""``python -m ranker.studies NAME --table PATH [-o docs/studies/NAME.md]``."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from features.errors import ForetuneError
from ranker.parallel import at_work

STUDIES = ("zeng", "ibm", "nas", "rectified", "transfer", "small", "choices", "ceilings", "variants", "summary")
_SPLITS = {"ibm": 25}


def main(arguments: list[str] | None = None) -> int:
    """Run one study; the exit code is 0, or that of the error."""
    parser = argparse.ArgumentParser(
        prog="python -m ranker.studies", description="Published tables put through learning to compare."
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument(
        "--table",
        help="the published file, or a folder that holds it; zeng and variants ship; summary: the folder of pages",
    )
    parser.add_argument("-o", "--output", help="Markdown page to write; figures go beside it as .json (default: print)")
    parser.add_argument("--splits", type=int, help="random hold-outs (default 20; ibm 25)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="hold-outs side by side, a core each (default 1)")
    parser.add_argument("--quick", action="store_true", help="the main tables only")
    given = parser.parse_args(arguments)
    splits = given.splits or _SPLITS.get(given.study, 20)
    command = f"python -m ranker.studies {given.study}"
    if given.table:
        command += " --table " + Path(given.table).name
    command += (f" --splits {splits}" if given.splits else "") + (f" --seed {given.seed}" if given.seed else "")
    command += " --quick" if given.quick else ""
    try:
        module = importlib.import_module(f"ranker.studies.{given.study}")
        with at_work(given.jobs):
            page = module.study(given.table, splits=splits, seed=given.seed, command=command, quick=given.quick)
        if given.output:
            page.write(Path(given.output))
            print(given.output)
        else:
            print(page.markdown())
    except ForetuneError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
