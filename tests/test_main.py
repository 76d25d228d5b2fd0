from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy
import pytest

import mapix
from mapix import text
from mapix.__main__ import describe, main
from mapix.demo import data, tour


@pytest.fixture
def mixed(tmp_path):
    return data.make("mixed", tmp_path / "mixed", 40)


def failed(capsys, *argv: str, status: int = 2) -> str:
    """The one line on stderr of a command that must fail with this exit status."""
    assert main(list(argv)) == status
    err = capsys.readouterr().err
    assert err.startswith("mapix: error: ")
    assert err.count("\n") == 1
    return err


# --- demo -----------------------------------------------------------------------------------------


def test_demo(tmp_path, capsys):
    pytest.importorskip("PIL")
    folder = tmp_path / "demo"
    assert main(["demo", "--folder", str(folder), "--mb", "4"]) == 0
    out, err = capsys.readouterr()
    lines = err.splitlines()  # of a step each: there is no terminal
    assert len(lines) == 5
    assert all(line.endswith(" ...") for line in lines)
    assert f'>>> mapix.open("{folder / "uniform"}")' in out
    assert "usual way" in out
    assert "MIXED" in out
    assert re.search(r"private memory, opened +", out)
    sizes = [path.stat().st_size for path in folder.glob("*/t*")]
    assert len(sizes) == 4
    assert sum(sizes) == pytest.approx(4e6, rel=0.1)
    assert str(folder / "contact-sheet.png") in out
    assert (folder / "contact-sheet.png").stat().st_size > 100_000
    assert all(line == line.rstrip() and "\t" not in line for line in out.splitlines())


@pytest.mark.slow
def test_demo_finds_its_data_again_and_does_without_pillow(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setattr(tour.compare, "compared", lambda path, progress: [FIGURES, FIGURES])
    argv = ["demo", "--folder", str(tmp_path / "demo"), "--mb", "1"]
    assert main(argv) == 0
    assert "made in" in capsys.readouterr().out
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert out.count("found") == 2
    assert "pip install 'mapix[images]'" in out


FIGURES = dict.fromkeys(("n", "opened", "batch", "epoch", "memory_opened", "memory_epoch"), 1)


@pytest.mark.slow
def test_demo_puts_the_sheet_where_it_is_told(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    from mapix.demo import sheet

    monkeypatch.setattr(tour.compare, "compared", lambda path, progress: [FIGURES, FIGURES])
    place = tmp_path / "pictures" / "mine.png"
    argv = ["demo", "--folder", str(tmp_path / "demo"), "--mb", "1", "--sheet", str(place)]
    assert main(argv) == 0
    with image.open(place) as drawn:
        assert drawn.size == sheet.SIZE


def test_demo_refuses_a_size_of_nothing(tmp_path, capsys):
    assert "--mb must be above 0" in failed(capsys, "demo", "--folder", str(tmp_path), "--mb", "0")
    assert "above 0" in failed(capsys, "demo", "--folder", str(tmp_path), "--mb", "nan")


def test_demo_leaves_foreign_data_alone(tmp_path, capsys):
    (tmp_path / "uniform").mkdir()
    (tmp_path / "uniform" / "train").write_bytes(b"mine")
    assert main(["demo", "--folder", str(tmp_path), "--mb", "1"]) == 2
    assert "holds other data: remove it" in capsys.readouterr().err


# --- info -----------------------------------------------------------------------------------------


def test_info_of_mixed_sizes(mixed, capsys):
    assert main(["info", str(mixed)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == str(mixed / "train")
    for fact in ("14-byte headers", "train, test", "additive_saw"):
        assert fact in out
    assert re.search(r"records +32\n", out)
    assert re.search(r"uniform +no\n", out)
    assert re.search(r"0 +note_number +61 +36 +96 +1 ", out)
    assert re.search(r"frame_step +0.015625\b", out)
    assert all(line == line.rstrip() for line in out.splitlines())


def test_info_of_a_split_and_of_a_file(mixed, capsys):
    assert main(["info", str(mixed), "--split", "test"]) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[0] == str(mixed / "test")
    assert main(["info", str(mixed / "test")]) == 0
    assert capsys.readouterr().out == first


def test_info_of_one_size(tmp_path, capsys):
    data.make("uniform", tmp_path / "u", 10)
    assert main(["info", str(tmp_path / "u")]) == 0
    out = capsys.readouterr().out
    for name, value in (
        *(("records", "8"), ("uniform", "yes"), ("fewest labels", "3"), ("most labels", "3")),
        *(("smallest shape", "64 x 64 x 1"), ("largest shape", "64 x 64 x 1")),
    ):
        assert re.search(rf"  {name} +{value}\n", out)


def test_info_without_json_and_without_records(mixed, tmp_path, capsys):
    bare = tmp_path / "train"
    bare.write_bytes((mixed / "train").read_bytes())
    assert main(["info", str(bare)]) == 0
    out = capsys.readouterr().out
    assert "param_2" in out
    assert "\n  info\n" not in out
    bare.write_bytes(b"")
    assert main(["info", str(bare)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"records +0", out)
    assert "shape" not in out


def test_info_tells_warnings_as_lines(mixed, capsys):
    path = mixed / "vimh_dataset_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "train_samples": 7}))
    assert main(["info", str(mixed)]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"records +32\n", out)
    assert err.startswith("mapix: warning: ")
    assert "7 samples" in err
    assert err.count("\n") == 1


def test_what_is_no_vimh_dataset_is_shown_by_its_repr():
    assert describe([1, 2]) == "[1, 2]"


# --- errors ---------------------------------------------------------------------------------------


def test_errors_are_one_line(mixed, tmp_path, capsys):
    assert "no such file" in failed(capsys, "info", str(tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no format recognises it" in failed(capsys, "info", str(empty), status=1)
    assert "no split 'dev'" in failed(capsys, "info", str(mixed), "--split", "dev")
    assert "is a file" in failed(capsys, "info", str(mixed / "train"), "--split", "test")
    with open(mixed / "train", "r+b") as f:
        f.truncate(5000)
    assert "complete record" in failed(capsys, "info", str(mixed), status=1)


def test_ctrl_c_gives_130(monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tour, "run", stop)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "mapix: interrupted\n"


def test_bugs_are_not_hidden(monkeypatch):
    monkeypatch.setattr(tour, "run", lambda *arguments: [][0])
    with pytest.raises(IndexError):
        main(["demo"])


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [(["--version"], 0, mapix.__version__), (["--help"], 0, "demo"), ([], 3, "COMMAND")],
)
def test_arguments(argv, code, said, capsys):
    with pytest.raises(SystemExit) as e:
        main(argv)
    assert e.value.code == code
    assert said in "".join(capsys.readouterr())


def test_module_runs_and_survives_a_reader_that_has_had_enough(mixed):
    command = [sys.executable, "-m", "mapix", "info", str(mixed)]
    reader = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)
    done = subprocess.Popen(command, stdout=reader.stdin, stderr=subprocess.PIPE)
    reader.stdin.close()
    reader.wait()
    _, err = done.communicate()
    assert done.returncode in (0, 141)  # 0 where all was written before the reader went
    assert err == b""


def modules_after(argv: list[str]) -> tuple[str, set[str]]:
    """Output of a command in a process of its own, and what it has imported."""
    code = (
        "import sys, mapix.__main__\n"
        f"try: mapix.__main__.main({argv})\n"
        "except SystemExit: pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.splitlines())


def installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def test_version_imports_no_format_and_no_numpy():
    out, loaded = modules_after(["--version"])
    core = r"\(C core: (plain C|AVX2|AVX-512), (gcc|clang) [\w. -]+; C types there; "
    names = ("Pillow", "simplejpeg", "imagecodecs")
    decoders = "".join(rf", {name} ([\d.]+|missing)" for name in names)
    assert re.fullmatch(rf"mapix [\d.]+ {core}Python [\d.]+, numpy [\d.]+{decoders}\)\n", out)
    for name in names:
        assert f"{name} {installed(name)}" in out
    for version in (mapix.__version__, platform.python_version(), numpy.__version__):
        assert version in out
    assert not loaded & {
        "numpy",
        "mapix.registry",
        "mapix.demo",
        "mapix.vimh",
        "PIL",
    }


def test_help_lists_the_commands_of_formats_without_their_code():
    out, loaded = modules_after(["--help"])
    for name in ("demo", "info", "convert", "index", "repair", "idx", "pink", "visualrbm"):
        assert re.search(rf"^ +{name}\b", out, re.M), name
    assert not {m for m in loaded if m.endswith(".commands") and m != "mapix.commands"}
    assert not loaded & {"mapix.demo", "mapix.vimh.dataset", "mapix.conversion", "PIL"}


def test_a_command_of_a_format_imports_that_format_alone():
    out, loaded = modules_after(["pink", "--help"])
    assert "outliers" in out
    found = {m for m in loaded if m.endswith(".commands")}
    assert found == {"mapix.commands", "mapix.pink.commands"}


def test_unknown_commands_are_answered_by_similar_names(capsys):
    with pytest.raises(SystemExit) as e:
        main(["infos"])
    assert e.value.code == 3
    err = capsys.readouterr().err
    assert err == (
        "mapix: error: there is no command 'infos'; did you mean info?; see `mapix --help`\n"
    )


def test_errors_name_options_as_the_command_has_them(tmp_path, capsys):
    two = Path(__file__).parent / "golden" / "vimh" / "rgb_32x32x3_doc_example"
    err = failed(capsys, "convert", str(two), str(tmp_path / "x.npz"))
    assert "--split has to name one of train, test" in err
    err = failed(capsys, "convert", str(two), str(tmp_path / "x.npy"), "--split", "train")
    assert err.endswith("pass --lossy to allow it\n")
    err = failed(capsys, "convert", str(two), str(tmp_path / "x"))
    assert "--to has to name a format" in err
    err = failed(capsys, "query", str(two / "train_batch"), "note_number > 3 and split=3", status=3)
    assert "'note_number > 3 and split=3' is not a condition: == compares" in err
    err = failed(capsys, "query", str(two), "note_number", ">", "3", status=3)
    assert 'in quotes: mapix query PATH "label == 3"' in err


def test_what_is_no_dataset_says_what_to_open(tmp_path, capsys):
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(90))
    wrong = "no format recognises it; it looks like a JPEG picture; open the folder that it lies in"
    assert failed(capsys, "info", str(picture), status=1) == f"mapix: error: {picture}: {wrong}\n"
    assert main(["verify", str(picture)]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [f"  {picture}: {wrong}"]
    picture.unlink()
    numpy.save(tmp_path / "x.npy", numpy.zeros((3, 4)))
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "train").write_bytes(b"")
    err = failed(capsys, "ls", str(tmp_path), status=1)
    inside = f"open what is in it: {tmp_path / 'v'}, {tmp_path / 'x.npy'}"
    assert err.endswith(f"{inside}; `mapix catalogue` opens all of one format as one\n")
    assert main(["info", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(tmp_path)
    assert [line.split()[:2] for line in lines[2:6]] == [
        ["datasets", "here"],
        ["path", "format"],
        [str(tmp_path / "v"), "vimh"],
        [str(tmp_path / "x.npy"), "npy"],
    ]


def test_descriptions_of_datasets_are_tables():
    facts = {
        "format": "toy",
        "path": "/some/where",
        "records": 12345,
        "image_shape": [28, 28],
        "uniform": True,
        "nothing": None,
        "columns": [
            {"name": "note", "label": True, "unit": "", "min": -1.5},
            {"name": "text", "label": False},
        ],
        "splits": {"train": "/a", "test": "/b"},
        "info": {"maker": "me", "sizes": [1, 2], "deep": {"not": "shown"}},
    }
    assert text.description(facts).splitlines() == [
        "/some/where",
        "  format        toy",
        "  records       12,345",
        "  image shape   28 x 28",
        "  uniform       yes",
        "  splits        train, test",
        "",
        "  columns",
        "    name   label    min",
        "    note   yes     -1.5",
        "    text   no",
        "",
        "  info",
        "    maker   me",
        "    sizes   1, 2",
    ]


def test_progress_of_a_step_is_one_line_where_there_is_no_terminal(capsys, monkeypatch):
    with text.Progress("making it") as progress:
        for k in range(5):
            progress(k + 1, 5)
    assert capsys.readouterr().err == "making it ...\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with text.Progress("making it") as progress:
        progress(2, 5)
    assert capsys.readouterr().err == "\r\x1b[Kmaking it: 40 %\r\x1b[K"
    text.percent(1, 3)
    assert capsys.readouterr().err == "\r 33 %"


def test_output_of_a_terminal_that_knows_ascii_only(mixed):
    info = json.loads((mixed / "vimh_dataset_info.json").read_text())
    (mixed / "vimh_dataset_info.json").write_text(
        json.dumps({**info, "dataset_name": "kl\u00e4nge"})
    )
    done = subprocess.run(
        [sys.executable, "-m", "mapix", "info", str(mixed)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert rb"kl\xe4nge" in done.stdout


def test_info_of_an_archive_and_of_an_array(capsys):
    golden = Path(__file__).parent / "golden"
    assert main(["info", str(golden / "iid" / "odd_widths.iid")]) == 0
    said = capsys.readouterr().out
    facts = [line.split(None, 1) for line in said.splitlines()]
    for fact in (["records", "7"], ["image", "48 x 64"], ["area", "1 to 57"], ["even", "4"]):
        assert fact in facts
    assert main(["info", str(golden / "iid" / "empty_0seg.iid")]) == 0
    assert main(["info", str(golden / "idx" / "be_u8_3x4x5.idx")]) == 0
    assert "3 x 4 x 5" in capsys.readouterr().out
    assert main(["info", str(golden / "vimh" / "mnist_28x28x1_1p" / "train_batch")]) == 0
    assert re.search(r"encoding +pickle\n", capsys.readouterr().out)


def test_packages_of_formats_are_there_without_importing_them():
    code = (
        "import sys, mapix\n"
        "assert not [m for m in sys.modules if m.startswith(('mapix.idx', 'mapix.vimh.'))]\n"
        "assert mapix.idx.write and mapix.vimh.Writer and mapix.pink.Writer\n"
        "assert mapix.iid.Writer and mapix.visualrbm.stack and mapix.folder.Writer\n"
        "try: mapix.nothing\n"
        "except AttributeError as e: assert 'nothing' in str(e)\n"
        "else: raise SystemExit('found')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
