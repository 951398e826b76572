"""Tasks from files: the data formats, the forms, the task YAML, and that each mistake is named."""

# ruff: noqa: E501  (messages are tested in full, each on one line)
from __future__ import annotations

import gzip
import json
import resource
from pathlib import Path
from typing import Any

import pytest

from features.errors import DataError, ForetuneError, ManifestError
from features.prompting import render
from features.tasks import Task

ROWS = [
    {"text": f"the film number {i} was {'wonderful' if i % 2 else 'boring'}", "label": "positive" if i % 2 else "negative"}
    for i in range(40)
]
FILMS = """
task: films
data: {data}
output_type: multiple_choice
doc_to_text: "{{{{text}}}} It was"
doc_to_choice: ["terrible", "great"]
doc_to_target: label
labels: [negative, positive]
num_fewshot: 5
"""


def write(folder: Path, rows: list[dict[str, Any]], name: str = "films.jsonl") -> Path:
    """Rows in the format that the name says."""
    import pandas as pd

    file = folder / name
    if ".csv" in name or ".tsv" in name:
        pd.DataFrame(rows).to_csv(file, index=False, sep="\t" if ".tsv" in name else ",")
    elif ".parquet" in name:
        pd.DataFrame(rows).to_parquet(folder / name.removesuffix(".gz"))
        if name.endswith(".gz"):
            file.write_bytes(gzip.compress((folder / name.removesuffix(".gz")).read_bytes()))
    elif ".json" in name:
        text = json.dumps(rows) if name.removesuffix(".gz").endswith(".json") else "\n".join(map(json.dumps, rows))
        file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


def films(folder: Path, name: str = "films.csv", rows: list[dict[str, Any]] | None = None, more: str = "") -> Path:
    write(folder, ROWS if rows is None else rows, name)
    (folder / "films.yaml").write_text(FILMS.format(data=name) + more)
    return folder / "films.yaml"


@pytest.mark.parametrize(
    "name",
    [
        "films.csv",
        "films.tsv",
        "films.csv.gz",
        "films.jsonl",
        "films.jsonl.gz",
        "films.json",
        "films.parquet",
        "films.parquet.gz",
    ],
)
def test_every_format_gives_the_same_task(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    assert Task.read(films(tmp_path, name)).digest == Task.read(films(tmp_path / "other", "films.csv")).digest


def test_a_csv_file_may_be_separated_by_semicolons(tmp_path: Path) -> None:
    path = films(tmp_path)
    plain = Task.read(path).digest
    (tmp_path / "films.csv").write_text((tmp_path / "films.csv").read_text().replace(",", ";"))
    assert Task.read(path).digest == plain


def test_a_40_row_csv_is_enough(tmp_path: Path) -> None:
    task = Task.read(films(tmp_path))
    assert {role: len(task.examples(role)) for role in ("train", "shots", "features", "test")} == {
        "train": 20,
        "shots": 20,
        "features": 10,
        "test": 10,
    }
    assert task.report == (
        "films: 40 examples of 'all' shuffled (seed 0), features held out of train: 20 train, 20 shots, 10 features, 10 test"
    )
    assert (task.kind, task.labels, task.num_fewshot) == ("multiple_choice", ("negative", "positive"), 5)
    example = task.examples("features")[0]
    assert (example.query, example.choices) == (f"{example.text} It was", ("terrible", "great"))
    assert example.label == example.doc["label"]
    assert example.answers == (example.choices[example.gold or 0],)


@pytest.mark.parametrize(
    ("rows", "kind", "pairs"),
    [
        ([{"query": "2+2 is", "choices": ["3", "4"], "gold": 1}], "multiple_choice", [("2+2 is", " 3"), ("2+2 is", " 4")]),
        (
            [{"context_options": ["Tom cried. He", "Ann cried. He"], "continuation": "was sad", "gold": 0}],
            "multiple_choice",
            [("Tom cried. He", " was sad"), ("Ann cried. He", " was sad")],
        ),
        ([{"context": "All rise! said", "continuation": "Orson"}], "generate", [("All rise! said", " Orson")]),
        (
            [{"question": "who?", "answer": "me", "answers": ["I", "me"]}],
            "generate",
            [("Question: who?\nAnswer:", " me"), ("Question: who?\nAnswer:", " I")],
        ),
        (
            [{"question": "who?", "context": "It was me.", "answer": "me"}],
            "generate",
            [("It was me.\n\nQuestion: who?\nAnswer:", " me")],
        ),
        (
            [{"question": "who?", "passages": ["A.", "B."], "answers": ["me"]}],
            "generate",
            [("A.\n\nB.\n\nQuestion: who?\nAnswer:", " me")],
        ),
        (
            [{"question": "who?", "choices": ["me", "you"], "answer": "you"}],
            "multiple_choice",
            [("Question: who?\nAnswer:", " me"), ("Question: who?\nAnswer:", " you")],
        ),
    ],
)
def test_data_that_says_what_it_is_needs_no_yaml(
    tmp_path: Path, rows: list[dict[str, Any]], kind: str, pairs: list[tuple[str, str]]
) -> None:
    first = rows[0]
    grown = []
    for i in range(8):
        key = next(k for k in ("query", "context_options", "question", "context") if k in first)
        value = first[key]
        new = ["!" * i + v for v in value] if isinstance(value, list) else value + "?" * i
        grown.append({**first, key: new, "split": "train" if i else "test"})
    task = Task.read(write(tmp_path, grown, "mine.jsonl"))
    assert (task.name, task.kind) == ("mine", kind)
    assert list(task.requests(task.examples("test"))) == pairs


def test_passages_are_the_context_of_an_example(tmp_path: Path) -> None:
    rows = [{"question": f"who {i}?", "passages": ["A.", "B."], "answers": ["me"]} for i in range(8)]
    assert Task.read(write(tmp_path, rows, "rag.jsonl")).examples("test")[0].context == "A.\n\nB."


@pytest.mark.parametrize(
    ("target", "value", "gold"),
    [
        ("label", "positive", 1),
        ("label", "great", 1),
        ("label", "1", 1),
        ("label", 1, 1),
        ("label", 1.0, 1),
        ("label", True, 1),
        ('"{{label}}"', "1", 1),
        ("\"{{ ['negative', 'positive'].index(label) }}\"", "positive", 1),
        ("1", "whatever", 1),
    ],
)
def test_the_gold_may_be_an_index_a_label_a_choice_or_a_template(tmp_path: Path, target: str, value: Any, gold: int) -> None:
    rows = [{"text": f"film {i}", "label": value} for i in range(12)]
    write(tmp_path, rows, "films.jsonl")
    (tmp_path / "films.yaml").write_text(
        FILMS.format(data="films.jsonl").replace("doc_to_target: label", f"doc_to_target: {target}")
    )
    assert {example.gold for example in Task.read(tmp_path / "films.yaml").examples("train")} == {gold}


@pytest.mark.parametrize("label", ["²", "٣", "1" * 5000])
def test_only_decimal_digits_are_an_index_of_the_gold(tmp_path: Path, label: str) -> None:
    rows = [{"text": f"film {i}", "label": 0} for i in range(12)]
    path = films(tmp_path, "films.jsonl", [*rows[:3], {"text": "film 3", "label": label}, *rows[4:]])
    with pytest.raises(DataError, match=r"films\.jsonl: line 4: the gold answer .* is none of the 2 choices"):
        Task.read(path)
    path.write_text(path.read_text().replace("doc_to_target: label", f'doc_to_target: "{label}"'))
    with pytest.raises(ForetuneError, match=r"neither a field nor a template|is none of the 2 choices"):
        Task.read(path)
    path.write_text(FILMS.format(data="films.jsonl").replace("great", label).replace("{{text}} It was", "{{label}} {{text}}"))
    assert [e.gold for role in ("train", "features", "test") for e in Task.read(path).examples(role)].count(1) == 1


@pytest.mark.parametrize(
    "choice", ["options", '"{{options}}"', '"{{ [options[0], options[1]] }}"', '"{{ options | list }}"', "nested"]
)
def test_choices_may_be_a_field_or_a_template(tmp_path: Path, choice: str) -> None:
    rows = [{"q": f"q{i}", "options": ["a", "b"], "nested": {"text": ["a", "b"], "label": ["A", "B"]}, "g": 1} for i in range(8)]
    write(tmp_path, rows, "mc.jsonl")
    (tmp_path / "mc.yaml").write_text(f"data: mc.jsonl\ndoc_to_text: q\ndoc_to_choice: {choice}\ndoc_to_target: g\n")
    task = Task.read(tmp_path / "mc.yaml")
    assert (task.examples("test")[0].choices, task.labels) == (("a", "b"), ())


def test_several_templates_share_their_labels(tmp_path: Path) -> None:
    write(tmp_path, ROWS, "films.csv")
    (tmp_path / "films.yaml").write_text(
        """
data: films.csv
doc_to_target: label
labels: [negative, positive]
templates:
  - {name: was, text: "{{text}} It was", choices: [terrible, great]}
  - {text: "{{text}} This is", choices: [bad, good]}
"""
    )
    task = Task.read(tmp_path / "films.yaml")
    example = task.examples("test")[0]
    assert task.templates == ("was", "t1")
    assert [r.choices for r in example.rendered] == [("terrible", "great"), ("bad", "good")]
    assert task.requests([example], template=1)[0] == (f"{example.text} This is", " bad")


def test_a_mapping_of_splits_to_files_and_the_harness_way_to_name_them(tmp_path: Path) -> None:
    write(tmp_path, ROWS[:30], "a.jsonl")
    write(tmp_path, ROWS[30:], "b.jsonl")
    rest = FILMS.split("output_type")[1].replace("{{", "{").replace("}}", "}")
    (tmp_path / "one.yaml").write_text("task: films\ndata: {train: a.jsonl, test: b.jsonl}\noutput_type" + rest)
    (tmp_path / "two.yaml").write_text(
        "task: films\ndataset_path: json\ndataset_kwargs: {data_files: {train: a.jsonl, test: b.jsonl}}\noutput_type" + rest
    )
    one, two = Task.read(tmp_path / "one.yaml"), Task.read(tmp_path / "two.yaml")
    assert len(one.examples("test")) == 10
    assert one.digest == two.digest


def test_graded_answers_are_numbers(tmp_path: Path) -> None:
    rows = [{"question": f"how many {i}?", "answer": i / 2} for i in range(8)]
    task = Task.read(write(tmp_path, rows, "graded.jsonl"))
    assert {e.target for role in ("train", "features", "test") for e in task.examples(role)} == {i / 2 for i in range(8)}


def test_a_raw_line_break_inside_a_string_is_forgiven_and_a_cut_line_is_not(tmp_path: Path) -> None:
    lines = [json.dumps({"context": f"a{i}", "continuation": "b"}) for i in range(8)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:4], '{"context": "two\nlines\nlong", "continuation": "c"}', *lines[4:]]))
    task = Task.read(tmp_path / "a.jsonl")
    assert "two\nlines\nlong" in {e.query for role in ("train", "features", "test") for e in task.examples(role)}
    (tmp_path / "b.jsonl").write_text("\n".join([*lines[:4], '{"context": "cut', *lines[4:]]))
    with pytest.raises(DataError, match=r"b\.jsonl: line 5: not JSON: Unterminated string"):
        Task.read(tmp_path / "b.jsonl")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('"half \\ud83d"', "\\ud83d after '{{\"label\": 1, \"text\": \"half ' is half of a surrogate pair, no character; write the whole pair, or \\ufffd in its place"),
        ("9" * 5000, "a number of more than 4,300 digits; write it as text"),
        ("[" * 100_000, "nested too deeply; write flat objects"),
    ],
)  # fmt: skip
def test_json_that_no_checkpoint_can_read_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = films(tmp_path, "films.jsonl")
    lines = (tmp_path / "films.jsonl").read_text().split("\n")
    lines[4] = f'{{"label": 1, "text": {text}}}'
    (tmp_path / "films.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        Task.read(path)
    assert str(caught.value) == f"{tmp_path / 'films.jsonl'}: line 5: {told.format()}"
    (tmp_path / "films.jsonl").unlink()
    (tmp_path / "films.json").write_text(f"[{','.join(lines)}]")
    path.write_text(FILMS.format(data="films.json"))
    with pytest.raises(DataError) as caught:
        Task.read(path)
    assert str(caught.value).startswith(f"{tmp_path / 'films.json'}: ")
    assert str(caught.value).endswith(told.split("; ")[1])


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    rows = [{**row, "text": f"{row['text']} \U0001f600"} for row in ROWS]
    assert "\\ud83d\\ude00" in write(tmp_path, rows, "films.jsonl").read_text()
    assert Task.read(films(tmp_path, "films.jsonl", rows)).examples("test")[0].text.endswith("\U0001f600")


def test_a_long_text_is_read_from_csv_as_from_jsonl(tmp_path: Path) -> None:
    rows = [*ROWS[:-1], {**ROWS[-1], "text": "a long film " * 20_000}]
    (tmp_path / "other").mkdir()
    assert (
        Task.read(films(tmp_path, "films.csv", rows)).digest == Task.read(films(tmp_path / "other", "films.jsonl", rows)).digest
    )
    (tmp_path / "films.csv").write_text('text,label\n"' + "a long film \n" * 20_000)
    with pytest.raises(DataError, match="not CSV: unexpected end of data; mend the quotes there"):
        Task.read(tmp_path / "films.yaml")


def test_damaged_compression_is_named(tmp_path: Path) -> None:
    path = films(tmp_path, "films.jsonl.gz")
    raw = bytearray((tmp_path / "films.jsonl.gz").read_bytes())
    raw[20:24] = bytes([raw[20] ^ 255, raw[21] ^ 255, 0, 255])
    (tmp_path / "films.jsonl.gz").write_bytes(raw)
    with pytest.raises(DataError, match=r"films\.jsonl\.gz: cannot be read: Error -3 .*; check the file"):
        Task.read(path)


SMALL = (
    "data: films.csv\ndoc_to_text: '{{text}}'\ndoc_to_choice: [bad, good]\ndoc_to_target: label\nlabels: [negative, positive]\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: a\n", "{f}: no data is named; add `data:` (a local file) or `dataset_path:` (a Hub data set)"),
        ("data: gone.csv\n", "{f}: data: no such data file: gone.csv; paths are relative to {d}"),
        (SMALL + "doc_to_txt: a\n", "{f}: unknown key 'doc_to_txt'; did you mean 'doc_to_text'?"),
        (SMALL + "dataset_path: imdb\n", "{f}: both `data` and `dataset_path` are there; keep one of the two"),
        (SMALL.replace("'{{text}}'", "'{{txt}}'"), "{f}: doc_to_text: the template refers to the field 'txt', which the data does not have; did you mean 'text'?"),
        (
            SMALL.replace("'{{text}}'", "!function utils.doc_to_text"),
            "{f}: line 2: doc_to_text: the tag !function is refused; "
            "nothing in a manifest can run code: write a Jinja template or a list instead",
        ),
        (SMALL.replace("'{{text}}'", "'{{text'"), "{f}: doc_to_text: not a Jinja template: unexpected end of template, expected 'end of print statement'.; mend the template '{{{{text'"),
        (SMALL.replace("doc_to_target: label\n", ""), "{f}: doc_to_target: choices without a gold answer; add `doc_to_target: label`"),
        (SMALL.replace("[bad, good]", "[bad]"), "{f}: doc_to_choice: expected at least 2 choices, found 1; list every answer to choose from"),
        (SMALL.replace("[bad, good]", "[bad, bad]"), "{f}: doc_to_choice[1]: 'bad' is there twice; make each choice differ from the others"),
        (SMALL.replace("[bad, good]", "[bad, true]"), "{f}: doc_to_choice[1]: expected text, found the boolean true; put it in quotes"),
        (SMALL.replace("[negative, positive]", "[negative]"), "{f}: labels: 1 labels for 2 choices; name the choices, in their order"),
        (
            SMALL.replace("labels: [negative, positive]\n", ""),
            "{p}: line 2: the gold answer 'negative' is none of the 2 choices ('bad', 'good'), nor an index of one; "
            "name the labels that the data uses, in the order of the choices, with `labels: [...]`",
        ),
        (SMALL + "num_fewshot: 21\n", "{f}: num_fewshot: 21 shots, but the pool has 20; lower it"),
        (SMALL + "num_fewshot: -1\n", "{f}: num_fewshot: expected 0 or more, found -1; 0 means no shots"),
        (SMALL + "num_fewshot: five\n", "{f}: num_fewshot: expected a whole number, found the text 'five'; write a whole number there"),
        (SMALL + "test_split: tset\n", "{f}: test_split: the data has no split 'tset'; known are: all"),
        (SMALL + "output_type: multiple_choise\n", "{f}: output_type: unknown output type 'multiple_choise'; did you mean 'multiple_choice'?"),
        (SMALL + "output_type: generate_until\n", "{f}: output_type: choices in a task of type generate_until; write multiple_choice, or drop the choices"),
        (SMALL + "include: other.yaml\n", "{f}: the key 'include' is not supported; another file's keys would be taken over; copy them into this file"),
        (SMALL + "templates: []\n", "{f}: both `doc_to_text` and `templates` are there; move the first into the second"),
        (SMALL + "dataset_kwargs: {trust_remote_code: true}\n", "{f}: dataset_kwargs.trust_remote_code: code of a data set is not run; name a local file with `data:`"),
        (SMALL.replace("[bad, good]", "choices"), "{f}: doc_to_choice: 'choices' is neither a list, a field nor a template; known are: label, text"),
        (SMALL.replace("doc_to_target: label", "doc_to_target: lable"), "{f}: doc_to_target: 'lable' is neither a field nor a template; did you mean 'label'?"),
        (SMALL.replace("doc_to_target: label", "doc_to_target: 2"), "{p}: line 2: the gold answer 2 is none of the 2 choices ('bad', 'good'), nor an index of one; "
            "name the labels that the data uses, in the order of the choices, with `labels: [...]`"),
    ],
)  # fmt: skip
def test_each_mistake_in_a_task_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, ROWS, "films.csv")
    file = tmp_path / "films.yaml"
    file.write_text(text)
    with pytest.raises(ForetuneError) as caught:
        Task.read(file)
    assert str(caught.value) == message.format(f=file, d=tmp_path.resolve(), p=tmp_path / "films.csv")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the data is empty; a task needs at least 4 examples"),
        ("text,label\n", "the data is empty; a task needs at least 4 examples"),
        ("text,label\na,b,c\n", "line 2: 3 fields, where the header has 2; put text that holds the delimiter or a line break in double quotes"),
        ("text,text\na,b\n", "line 1: the header is ['text', 'text']; give each column a name of its own"),
        ('text,label\n"a,b\n', "line 2: not CSV: unexpected end of data; mend the quotes there"),
        ("text,label\na,negative\nb,\n", "line 3: no gold answer: the field 'label' is empty; give every row one, or drop the row"),
        ("text,label\na,negative\nb,negative\nA,negative\n", "2 different examples; a task needs at least 4"),
    ],
)  # fmt: skip
def test_each_mistake_in_the_data_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "films.csv").write_text(content)
    (tmp_path / "films.yaml").write_text(SMALL)
    with pytest.raises(DataError) as caught:
        Task.read(tmp_path / "films.yaml")
    where = tmp_path / ("films.yaml" if "different" in message else "films.csv")
    assert str(caught.value) == f"{where}: {message}"


def test_rows_that_lack_what_the_others_have_are_named(tmp_path: Path) -> None:
    rows = [{"query": f"q{i}", "choices": ["a", "b"], "gold": 0} for i in range(8)]
    for change, message in (
        ({"gold": None}, "no gold answer: the field 'gold' is empty"),
        ({"gold": 2}, "the gold answer 2 is none of the 2 choices"),
        ({"gold": -1}, "the gold answer -1 is none of the 2 choices"),
        ({"choices": ["a"]}, "choices is not a list of at least 2"),
        ({"choices": ["a", ""]}, "choices has an empty entry"),
        ({"choices": "a, b"}, "choices is not a list"),
    ):
        write(tmp_path, [*rows[:5], {**rows[5], **change}, *rows[6:]], "mc.jsonl")
        with pytest.raises(DataError) as caught:
            Task.read(tmp_path / "mc.jsonl")
        assert str(caught.value).startswith(f"{tmp_path / 'mc.jsonl'}: line 6: {message}")
    without = [{k: v for k, v in row.items() if not (i == 5 and k == "query")} for i, row in enumerate(rows)]
    write(tmp_path, without, "mc.jsonl")
    with pytest.raises(DataError, match=r"line 6: 'query' is undefined, in doc_to_text"):
        Task.read(tmp_path / "mc.jsonl")


def test_data_that_does_not_say_what_it_is_asks_for_a_prompt(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the fields label, text do not say what the task is; write a task YAML"):
        Task.read(write(tmp_path, ROWS, "films.jsonl"))
    with pytest.raises(DataError, match="'choices' without a gold answer; add a field `gold`"):
        Task.read(write(tmp_path, [{"query": "q", "choices": ["a", "b"]}], "mc.jsonl"))
    with pytest.raises(ManifestError, match="no such task file"):
        Task.read(tmp_path / "gone.jsonl")
    (tmp_path / "films.txt").write_text("x")
    with pytest.raises(DataError, match=r"cannot tell the format of 'films\.txt'"):
        Task.read(tmp_path / "films.txt")
    (tmp_path / "films.jsonl.gz").write_text("not gzip")
    with pytest.raises(DataError, match="not a gzip file, though its name says so"):
        Task.read(tmp_path / "films.jsonl.gz")
    (tmp_path / "films.parquet").write_text("not parquet")
    with pytest.raises(DataError, match="cannot be read"):
        Task.read(tmp_path / "films.parquet")


def test_a_hub_data_set_that_cannot_be_had_offline_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text(SMALL.replace("data: films.csv", "dataset_path: nobody/nothing"))
    with pytest.raises(DataError) as caught:
        Task.read(tmp_path / "hub.yaml")
    assert "the data set 'nobody/nothing' cannot be had" in str(caught.value)
    assert "name a local file with `data:`" in str(caught.value)


def test_a_folder_that_datasets_reads_serves_as_a_hub_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    write(tmp_path / "set", ROWS[:30], "train.jsonl")
    write(tmp_path / "set", ROWS[30:], "test.jsonl")
    (tmp_path / "hub.yaml").write_text(SMALL.replace("data: films.csv", "dataset_path: set"))
    assert len(Task.read(tmp_path / "hub.yaml").examples("test")) == 10


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ text.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('ls').read() }}",
        "{{ 'a' * 10000000000 }}",
        "{{ [0] * 10000000000 }}",
        "{{ 9 ** 9999999 }}",
        "{% for i in range(10000000000) %}{% endfor %}",
        "{{ 'a' | center(999999999) }}",
        "{{ ['a', 'b'] | map('center', width=999999999) | join }}",
        "{{ 'a'.center(999999999) }}",
        "{{ 'a'.encode().ljust(999999999) }}",
        "{{ ('a' | attr('rjust'))(999999999) }}",
        "{{ '1'.zfill(999999999) }}",
        "{{ '\t'.expandtabs(999999999) }}",
        "{{ (1).to_bytes(999999999, 'big') }}",
        "{{ ('a\n' * 100000) | indent(100000) }}",
        "{{ [1] | batch(999999999, 'x') | list }}",
        "{{ [1] | slice(999999999) | list }}",
        "{{ [[[1, 2] * 1000]] | tojson(indent=1000000) }}",
        "{{ 1.5 | round(999999999, 'ceil') }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
        "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
        "{{ ('a' * 100000) | regex_replace('a', 'b' * 100000) }}",
        "{{ range(100000) | join('b' * 100000) }}",
        "{{ range(100000) | map('string') | join('b' * 100000) }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ '{:.{n}f}'.format(1.5, n=999999999) }}",
        "{{ '{a:999999999}'.format_map({'a': 1}) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '%(a)999999999d' % {'a': 1} }}",
        "{{ '%.999999999f' | format(1) }}",
        "{{ '%*d' | format(999999999, 1) }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{{ text }}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_can_neither_reach_out_nor_eat_the_memory(tmp_path: Path, attack: str) -> None:
    write(tmp_path, ROWS, "films.csv")
    (tmp_path / "films.yaml").write_text(SMALL.replace("'{{text}}'", json.dumps(attack)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ForetuneError) as caught:
        Task.read(tmp_path / "films.yaml")
    assert "doc_to_text" in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ 'a' | center(5) }}|{{ '7'.zfill(3) }}|{{ 'a'.ljust(3) }}", "  a  |007|a  "),
        ("{{ 'a\nb' | indent(2) }} {{ {'a': [1]} | tojson(indent=1) }}", 'a\n  b {\n "a": [\n  1\n ]\n}'),
        ("{{ '%5.2f%%' % 1.234 }} {{ '%s and %s' | format('a', 'b') }} {{ '**%d**' % 5000000 }}", " 1.23% a and b **5000000**"),
        ("{{ '{:>{n}}|{:,}'.format('a', 12345, n=3) }} {{ '{:,}'.format(12345678) }}", "  a|12,345 12,345,678"),
        ("{{ 20000 * 30000 }} {{ 1234567890 | round(2) | int }} {{ [7, 1234567890].index(1234567890) }}", "600000000 1234567890 1"),
        ("{{ ('word ' * 100000)[:9] | replace(' ', '_') }} {{ ['a', 'b'] | map('upper') | join(', ') }}", "word_word A, B"),
        ("{{ ('word ' * 100000) | truncate(12) }} {{ 'ab' | regex_replace('b', 'c') }}", "word... ac"),
    ],
)  # fmt: skip
def test_what_the_sandbox_bounds_works_at_the_size_of_a_prompt(template: str, text: str) -> None:
    assert render(template, {}, where="doc_to_text") == text
