"""The zoo manifest: what it gives, and that each mistake in it is named."""

# ruff: noqa: E501  (messages are tested in full, each on one line)
from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import ManifestError, UnknownNameError
from features.manifest import read_yaml
from features.zoo import Checkpoint, Zoo

FULL = """
zoo: mine
checkpoints:
  - name: small
    model: ./small
    revision: main
    gguf_file: model.gguf
    family: mine
    step: 1000
    meta: {learning_rate: 1e-3, tokens: 2.0e+9, objective: clm, tagged: true}
  - {name: hub, model: owner/name}
  - {name: beside, model: models/b}
tasks: [films.yaml]
corpora: {reference: held_out.jsonl}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "films.yaml").write_text("task: films\ndata: films.csv\n")
    (tmp_path / "held_out.jsonl").write_text('{"text": "hello"}\n')
    (tmp_path / "small").mkdir()
    (tmp_path / "models" / "b").mkdir(parents=True)
    (tmp_path / "zoo.yaml").write_text(FULL)
    return tmp_path


def test_every_documented_key_is_read(folder: Path) -> None:
    zoo = Zoo.read(folder / "zoo.yaml")
    small = zoo["small"]
    assert (zoo.name, len(zoo.checkpoints)) == ("mine", 3)
    assert (small.revision, small.gguf_file, small.family, small.step) == ("main", "model.gguf", "mine", 1000)
    assert small.meta == {"learning_rate": 0.001, "tokens": 2e9, "objective": "clm", "tagged": True}
    assert zoo.tasks == (folder / "films.yaml",)
    assert zoo.corpora == {"reference": folder / "held_out.jsonl"}


def test_paths_are_relative_to_the_manifest_and_the_rest_are_hub_ids(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    zoo = Zoo.read(folder / "zoo.yaml")
    assert zoo["small"].location == str((folder / "small").resolve())
    assert zoo["beside"].location == str((folder / "models" / "b").resolve())
    assert zoo["hub"].location == "owner/name"


@pytest.mark.parametrize(
    ("model", "local"),
    [
        ("./gone", True),
        ("../gone", True),
        ("/gone", True),
        ("~/gone", True),
        ("a/b/c", True),
        ("owner/name", False),
        ("gpt2", False),
    ],
)
def test_what_can_only_be_a_path_is_one_even_where_nothing_lies(tmp_path: Path, model: str, local: bool) -> None:
    assert Checkpoint("x", model, root=tmp_path).is_local is local


def test_a_missing_folder_is_left_for_extraction_to_report(folder: Path) -> None:
    (folder / "zoo.yaml").write_text("checkpoints: [{name: gone, model: ./gone}]")
    assert Zoo.read(folder / "zoo.yaml")["gone"].location == str((folder / "gone").resolve())


def test_the_name_of_a_zoo_is_that_of_its_file_unless_given(folder: Path) -> None:
    (folder / "mine_too.yaml").write_text("checkpoints: [{name: a, model: ./small}]")
    assert Zoo.read(folder / "mine_too.yaml").name == "mine_too"


def test_an_unknown_checkpoint_is_told_with_the_nearest_name(folder: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        Zoo.read(folder / "zoo.yaml")["smal"]
    assert str(caught.value) == f"{folder / 'zoo.yaml'}: no checkpoint named 'smal'; did you mean 'small'?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{f}: an empty zoo file; see docs/tasks.md for the keys"),
        ("- a\n", "{f}: a zoo is a mapping of keys to values, found a list of 1; see docs/tasks.md for the keys"),
        ("checkpoint: []", "{f}: unknown key 'checkpoint'; did you mean 'checkpoints'?"),
        ("zoo: a", "{f}: 'checkpoints' is missing; add the key 'checkpoints'"),
        ("checkpoints: []", "{f}: checkpoints: an empty list; name at least one checkpoint"),
        ("checkpoints: small", "{f}: checkpoints: expected a list, found the text 'small'; write a list there"),
        (
            "checkpoints: [small]",
            "{f}: checkpoints[0]: expected a mapping, found the text 'small'; "
            "its keys are: name, model, revision, gguf_file, family, step, meta",
        ),
        ("checkpoints: [{name: a}]", "{f}: checkpoints[0]: 'model' is missing; add the key 'model'"),
        ("checkpoints: [{name: a, modle: ./a}]", "{f}: checkpoints[0]: unknown key 'modle'; did you mean 'model'?"),
        (
            "checkpoints: [{name: 7, model: ./a}]",
            "{f}: checkpoints[0].name: expected text, found the number 7; write text there; put it in quotes",
        ),
        (
            "checkpoints: [{name: a, model: ./a, step: later}]",
            "{f}: checkpoints[0].step: expected a whole number, found the text 'later'; write a whole number there",
        ),
        (
            "checkpoints: [{name: a, model: ./a, step: -1}]",
            "{f}: checkpoints[0].step: expected a step of 0 or more, found -1; count steps from 0",
        ),
        (
            "checkpoints: [{name: a, model: ./a}, {name: a, model: ./b}]",
            "{f}: checkpoints[1].name: the name 'a' is taken by checkpoints[0]; give each checkpoint a name of its own",
        ),
        (
            "checkpoints: [{name: a, model: ./a, meta: {mix: [1, 2]}}]",
            "{f}: checkpoints[0].meta.mix: expected text or a finite number, found a list of 2; give one value, or leave the key out",
        ),
        (
            "checkpoints: [{name: a, model: ./a, meta: {outcome: 1}}]",
            "{f}: checkpoints[0].meta.outcome: the name 'outcome' is a column that foretune fills itself; choose another name",
        ),
        (
            "checkpoints: [{name: a, model: ./a}]\ntasks: [gone.yaml]",
            "{f}: tasks[0]: no such task file: gone.yaml; paths are relative to {d}",
        ),
        (
            "checkpoints: [{name: a, model: ./a}]\ncorpora: {reference: gone.txt}",
            "{f}: corpora.reference: no such corpus file: gone.txt; paths are relative to {d}",
        ),
        ("a: [1\nb: 2\n", "{f}: line 2: expected ',' or ']', but got ':'; mend the YAML there"),
        ("zoo: a\nzoo: b\n", "{f}: line 2: the key 'zoo' is written twice; mend the YAML there"),
        (
            "zoo: !function os.system\n",
            "{f}: line 1: zoo: the tag !function is refused; nothing in a manifest can run code: write a Jinja template or a list instead",
        ),
        (
            "zoo: !!python/object/apply:os.system [ls]\n",
            "{f}: line 1: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system'; mend the YAML there",
        ),
        (
            "checkpoints:\n  - {name: a, model: {{x}}}\n",
            "{f}: line 2: a key that is not text; put a template in quotes: '{{{{ text }}}}'",
        ),
        ("? [a]\n: 1\n", "{f}: line 1: a key that is not text; put a template in quotes: '{{{{ text }}}}'"),
        (
            "checkpoints: [{name: a, model: ./a}]\ntasks: ['~nobody-by-that-name/b.yaml']",
            "{f}: tasks[0]: no such task file: ~nobody-by-that-name/b.yaml; paths are relative to {d}",
        ),
        (
            f"checkpoints: [{{name: a, model: ./a}}]\ntasks: [{'x' * 300}]",
            f"{{f}}: tasks[0]: no such task file: {'x' * 300}; paths are relative to {{d}}",
        ),
        (
            f"checkpoints: [{{name: a, model: {'x' * 300}}}]",
            f"{{f}}: checkpoints[0].model: neither a path nor a Hub id: the text '{'x' * 60}'; name a folder or a Hub model",
        ),
        (
            'checkpoints: [{name: a, model: "./a\\0b"}]',
            "{f}: checkpoints[0].model: neither a path nor a Hub id: the text './a\\x00b'; name a folder or a Hub model",
        ),
    ],
)
def test_each_mistake_is_named_with_file_field_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "zoo.yaml"
    file.write_text(text)
    with pytest.raises(ManifestError) as caught:
        Zoo.read(file)
    assert str(caught.value) == message.format(f=file, d=tmp_path.resolve())


@pytest.mark.parametrize(
    "value",
    ["2024-13-45", "!!int abc", "!!bool abc", "!!timestamp abc", "!!float ''", "9" * 5000, "0x" + "f" * 5000, '"\\ud83d"'],
)
def test_a_value_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, value: str) -> None:
    file = tmp_path / "zoo.yaml"
    file.write_text(f"zoo: a\ncheckpoints:\n  - {{name: a, model: ./a, meta: {{b: {value}}}}}\n")
    with pytest.raises(ManifestError) as caught:
        Zoo.read(file)
    assert str(caught.value).startswith(f"{file}: line 3: '")
    assert str(caught.value).endswith(" cannot be read; correct it; put it in quotes if it is text")


def test_a_manifest_that_is_nested_too_deeply_or_named_too_long_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("zoo: " + "[" * 5000)
    with pytest.raises(ManifestError, match=r"deep\.yaml: nested too deeply; mend the YAML"):
        Zoo.read(tmp_path / "deep.yaml")
    with pytest.raises(ManifestError, match=r"no such zoo file; check the path"):
        Zoo.read("x" * 300)


def test_a_home_that_is_nobody_s_is_left_for_extraction_to_report(tmp_path: Path) -> None:
    (tmp_path / "zoo.yaml").write_text("checkpoints: [{name: a, model: '~nobody-by-that-name/a'}]")
    assert Zoo.read(tmp_path / "zoo.yaml")["a"].location == str(tmp_path.resolve() / "~nobody-by-that-name" / "a")


def test_a_missing_manifest_a_folder_and_other_bytes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.yaml: no such zoo file; check the path"):
        Zoo.read(tmp_path / "gone.yaml")
    with pytest.raises(ManifestError, match="a folder, where a zoo file was expected"):
        Zoo.read(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("zoo: é".encode("latin-1"))
    with pytest.raises(ManifestError, match="not UTF-8 text"):
        Zoo.read(tmp_path / "latin.yaml")


def test_words_stay_words_and_exponents_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "words: [no, yes, on, off, n]\nnumbers: [1e-3, 2.0e+9, .5, 3, 1E5]\nflags: [true, False]\ncodes: [5e, 1.2.3]\n"
    )
    assert read_yaml(tmp_path / "a.yaml") == {
        "words": ["no", "yes", "on", "off", "n"],
        "numbers": [0.001, 2e9, 0.5, 3, 1e5],
        "flags": [True, False],
        "codes": ["5e", "1.2.3"],
    }
