"""A zoo of the session's small checkpoints and three small tasks that can be learnt."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks: `films.yaml` (two labels), `sums.jsonl` (each row has its own three choices), `answers.yaml` (generation)."""
    folder = tmp_path_factory.mktemp("learnable")
    rng = random.Random(1)
    good, bad = ["bright", "fine", "superb", "lovely"], ["dull", "awful", "poor", "grim"]
    lines = ["text,label"]
    for i in range(160):
        lines.append(f"the {rng.choice(['plot', 'cast', 'score'])} of {i} was {rng.choice(good if i % 2 else bad)},{i % 2}")
    (folder / "films.csv").write_text("\n".join(lines) + "\n")
    (folder / "films.yaml").write_text(
        'task: films\ndata: films.csv\noutput_type: multiple_choice\ndoc_to_text: "{{text}} It was"\n'
        'doc_to_choice: ["terrible", "great"]\ndoc_to_target: label\nnum_fewshot: 2\n'
    )
    rows = []
    for i in range(80):
        digit = rng.randint(0, 6)
        choices = [str(digit + 1), str(digit + 2), str(digit + 3)]
        rng.shuffle(choices)
        rows.append({"query": f"case {i}: after {digit} comes", "choices": choices, "gold": choices.index(str(digit + 1))})
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [
        {"question": f"number {i}: what follows {i % 7}?", "answers": [str(i % 7 + 1), f"it is {i % 7 + 1}"]} for i in range(80)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    (folder / "answers.yaml").write_text(
        "task: answers\ndata: answers.jsonl\noutput_type: generate_until\n"
        'doc_to_text: "{{question}} Answer:"\ndoc_to_target: "{{answers}}"\nnum_fewshot: 1\n'
    )
    return folder
