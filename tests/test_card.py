"""Dataset cards: their text, their front matter as the Hub's libraries read it, hostile names."""

from __future__ import annotations

import contextlib
import io
import re

import numpy as np
import pytest

import every_operation
import mapix
import mapix.vimh
from mapix.card import card, picture, yaml
from test_commands import FAMILIES, failed, ran

HOSTILE = 'a"\\|`<b>\n---\n# x: [y](http://z)\x85\u2028\x1b[2J\U0001f600'


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(every_operation, "N", 6)
    monkeypatch.setattr(every_operation, "LAST", 5)
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(tmp_path / "cache"))


def parsed(text: str):
    """Return the front matter as PyYAML reads it, and the text below."""
    loader = pytest.importorskip("yaml", reason="needs PyYAML")
    _, front, below = re.split(r"^---\n", text, maxsplit=2, flags=re.M)
    return loader.safe_load(front), below


def code_of(text: str) -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    return code


DIGITS = """\
---
license: "mit"
pretty_name: "Digits"
size_categories:
- "n<1K"
tags:
- "mapix"
- "idx"
dataset_info:
  features:
  - name: "image"
    dtype: "image"
  - name: "label"
    dtype: "uint8"
  splits:
  - name: "train"
    num_bytes: 196
    num_examples: 6
---

# Digits

![Some records](card.png)

## Facts

| fact | value |
| --- | --- |
| format | idx |
| records | 6 |
| bytes | 196 |
| byte order | big |
| dtype | uint8 |
| shape | 6 x 6 x 5 |
| labels | x-labels-idx1-ubyte |

## Columns

| name | label | type | distinct | low | high |
| --- | --- | --- | --- | --- | --- |
| label | yes | uint8 | 6 | 0 | 5 |

## How to open it

```python
import mapix

ds = mapix.open('x-images-idx3-ubyte')
print(ds)
print(ds[0])
print(ds.columns['label'].values[:5])
print(ds.batch([0]).images.shape)
```

## Licence

mit
"""


def test_a_card_in_full(tmp_path, capsys):
    path = every_operation.idx(tmp_path)
    target = tmp_path / "card.md"
    ran(capsys, "card", str(path), "-o", str(target), "--license", "MIT", "--name", "Digits")
    assert target.read_text() == DIGITS
    with mapix.open(path) as ds:
        from mapix.drawing import png

        assert (tmp_path / "card.png").read_bytes() == png(picture(ds))
    assert "exists" in failed(capsys, "card", str(path), "-o", str(target))
    target.unlink()
    assert "card.png" in failed(capsys, "card", str(path), "-o", str(target))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith((".", "card"))) == [
        "card.png"
    ]
    ran(capsys, "card", str(path), "-o", str(target), "--no-picture")
    assert "![" not in target.read_text()


def test_arguments(tmp_path, capsys):
    path = str(every_operation.idx(tmp_path))
    assert "written as .md" in failed(capsys, "card", path, "-o", "x.txt", status=3)
    assert "--license: a licence is a short name" in failed(
        capsys, "card", path, "--license", "my: own", status=3
    )
    text = ran(capsys, "card", path)
    assert 'license: "unknown"\n' in text
    assert "The licence is not stated." in text
    assert f"ds = mapix.open({path!r})\n" in text


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=() if f == "vimh" else pytest.mark.slow) for f in FAMILIES],
)
def test_every_family(family, tmp_path, capsys, monkeypatch):
    if family == "folder":
        pytest.importorskip("PIL", reason="needs Pillow: pip install 'mapix[images]'")
    (tmp_path / "data").mkdir()
    path = FAMILIES[family](tmp_path / "data")
    target = tmp_path / "README.md"
    ran(capsys, "card", str(path), "-o", str(target))
    text = target.read_text()
    assert str(tmp_path) not in text
    with mapix.open(path) as ds:
        rows = re.findall(r"^\| (\S+) \|", text.partition("## Col")[2], re.M)
        assert rows[2:] == list(ds.columns)  # below the heads and the line of dashes
        assert f"| records | {len(ds)} |" in text
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code_of(text), "card", "exec"), {})
    assert out.getvalue()
    assert (tmp_path / "README.png").exists() == ("README.png" in text)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_hub_reads_the_front_matter(family, tmp_path, capsys):
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    if family == "folder":
        pytest.importorskip("PIL", reason="needs Pillow: pip install 'mapix[images]'")
    path = FAMILIES[family](tmp_path)
    found = hub.DatasetCard(ran(capsys, "card", str(path), "--license", "cc-by-4.0")).data
    assert found.license == "cc-by-4.0"
    assert found.pretty_name == path.name
    assert found.size_categories == ["n<1K"]
    with mapix.open(path) as ds:
        assert found.tags == ["mapix", ds.FAMILY]
        if not hasattr(found, "dataset_info"):
            assert path.suffix in (".jsonl", ".tar") or path.is_dir()
            return
        info = datasets.DatasetInfo._from_yaml_dict(found.dataset_info)
        keys = {"name": "train", "num_bytes": path.stat().st_size, "num_examples": len(ds)}
        assert info.splits._to_yaml_list() == [keys]
        if info.features is not None:
            names = [n for n in info.features if n not in ("image", "values")]
            assert names == list(ds.columns)
            info.features.encode_example(
                dict.fromkeys(names, 0)
                | {n: np.zeros((1, 1), "u1") for n in info.features if n == "image"}
                | {n: ds._content(0) for n in info.features if n == "values"}
            )


@pytest.mark.slow
def test_datasets_loads_a_folder_of_classes_that_has_a_card(tmp_path, capsys):
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    for k, name in enumerate(("cat", "dog", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
        pillow.new("RGB", (4, 3), (k, 0, 0)).save(tmp_path / "pets" / name / f"{k}.png")
    ran(
        capsys,
        "card",
        str(tmp_path / "pets"),
        "-o",
        str(tmp_path / "pets" / "README.md"),
        "--no-picture",
    )
    front, below = parsed((tmp_path / "pets" / "README.md").read_text())
    assert front["task_categories"] == ["image-classification"]
    assert "Classes of label: 0 cat, 1 dog.\n" in below
    loaded = datasets.load_dataset(str(tmp_path / "pets"), cache_dir=str(tmp_path / "hf"))["train"]
    assert sorted(loaded["label"]) == [0, 1, 1]
    assert loaded.features["label"].names == ["cat", "dog"]


def test_splits_and_hostile_names(tmp_path, capsys):
    images = [np.full((2, 3, 1), k, "u1") for k in range(5)]
    parameter = mapix.vimh.Parameter(HOSTILE, 0, 0, 255, 1, description=HOSTILE)
    folder = tmp_path / "d"
    values = [{HOSTILE: k} for k in range(5)]
    mapix.vimh.write(folder, images, values, parameters=[parameter], train=3)
    text = ran(capsys, "card", str(folder), "--name", HOSTILE)
    assert "\x1b" not in text
    assert text.count("\n---\n") == 1
    assert re.findall(r"^#+ .*", text, re.M)[1:] == [
        "## Facts of split train",
        "## Splits",
        "## Columns of split train",
        "## How to open it",
        "## Licence",
    ]
    assert "| train | 3 |\n| test | 2 |\n" in text
    table = text.partition("## Columns")[2].splitlines()
    row = next(line for line in table if line.startswith("| a"))
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"\|", table[2]))
    assert "<b>" not in row
    assert "](http" not in row
    assert "://" not in row
    assert f"print(ds.columns[{HOSTILE!a}].values[:5])" in text
    front, _ = parsed(text)
    (_, column) = front["dataset_info"]["features"]
    assert column == {"name": HOSTILE, "dtype": "float64"}
    assert front["dataset_info"]["splits"] == [
        # a header of 15 bytes, a label of 2, 6 pixels
        {"name": "train", "num_bytes": 3 * 23, "num_examples": 3},
        {"name": "test", "num_bytes": 2 * 23, "num_examples": 2},
    ]


def test_yaml_is_read_as_it_was_meant():
    loader = pytest.importorskip("yaml", reason="needs PyYAML")
    every = "".join(map(chr, [*range(0x250), 0x2028, 0xFEFF, 0xFFFE, 0x1F600, 0x10FFFF]))
    value = {
        "a": {"names": {"0": every, "yes": "no", "12": "~", "": "null"}},
        "b": ["- x", "1", 2, {"c": ["? y"], "d": "z: #"}],
    }
    assert loader.safe_load(yaml(value)) == value
    assert loader.safe_load(yaml({"a": "\udcff"})) == {"a": "\\udcff"}
    CSafeLoader = getattr(loader, "CSafeLoader", loader.SafeLoader)  # noqa: N806
    assert loader.load(yaml(value), CSafeLoader) == value


def test_features_of_arrays_of_any_dimensions(tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    found = []
    for ndim in range(7):
        np.save(tmp_path / "x.npy", np.zeros((2,) * (ndim + 1), "<u2"))
        with mapix.open(tmp_path / "x.npy") as ds:
            front, _ = parsed(card({None: ds}, name="x", opening=""))
        info = datasets.DatasetInfo._from_yaml_dict(front["dataset_info"])
        found.append(None if info.features is None else type(info.features["values"]).__name__)
    assert found == ["Value", "List", "Array2D", "Array3D", "Array4D", "Array5D", None]


def test_an_empty_dataset_and_other_sizes(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((0, 4), "f4"))
    with mapix.open(tmp_path / "x.npy") as ds:
        text = card({None: ds}, name="x", opening="mapix.open('x.npy')")
        assert picture(ds) is None
        assert "ds[0]" not in text
        assert "num_examples: 0" in text
    for n, name in ((999, "n<1K"), (1000, "1K<n<10K"), (2_000_000, "1M<n<10M")):
        np.save(tmp_path / "y.npy", np.zeros((n, 1), "u1"))
        with mapix.open(tmp_path / "y.npy") as ds:
            assert f'- "{name}"\n' in card({None: ds}, name="y", opening="")
