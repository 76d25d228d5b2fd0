from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mapix
from mapix.__main__ import describe, main
from mapix.demo import data, tour


@pytest.fixture
def mixed(tmp_path):
    return data.make_mixed(tmp_path / "mixed", 40)


def failed(capsys, *argv: str) -> str:
    """The one line on stderr of a command that must fail with exit code 1."""
    assert main(list(argv)) == 1
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
    assert err == ""  # no terminal, no progress
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


def test_demo_finds_its_data_again_and_does_without_pillow(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setattr(tour, "_measured", lambda line, paths: None)
    argv = ["demo", "--folder", str(tmp_path / "demo"), "--mb", "1"]
    assert main(argv) == 0
    assert "made in" in capsys.readouterr().out
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert out.count("found") == 2
    assert "pip install 'mapix[view]'" in out


def test_demo_puts_the_sheet_where_it_is_told(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    from mapix.demo import sheet

    monkeypatch.setattr(tour, "_measured", lambda line, paths: None)
    place = tmp_path / "pictures" / "mine.png"
    argv = ["demo", "--folder", str(tmp_path / "demo"), "--mb", "1", "--sheet", str(place)]
    assert main(argv) == 0
    with image.open(place) as drawn:
        assert drawn.size == sheet.SIZE


def test_demo_refuses_a_size_of_nothing(tmp_path, capsys):
    assert "above 0" in failed(capsys, "demo", "--folder", str(tmp_path), "--mb", "0")
    assert "above 0" in failed(capsys, "demo", "--folder", str(tmp_path), "--mb", "nan")


def test_demo_leaves_foreign_data_alone(tmp_path, capsys):
    (tmp_path / "uniform").mkdir()
    (tmp_path / "uniform" / "train").write_bytes(b"mine")
    assert "not made" in failed(capsys, "demo", "--folder", str(tmp_path), "--mb", "1")


# --- info -----------------------------------------------------------------------------------------


def test_info_of_mixed_sizes(mixed, capsys):
    assert main(["info", str(mixed)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == str(mixed / "train")
    for fact in ("14-byte headers", "32, of mixed sizes", "train, test", "additive_saw"):
        assert fact in out
    assert re.search(r"0 +note_number +61 +36 +96 +1 ", out)
    assert re.search(r"frame_step +0.015625 ", out)
    with mapix.open(mixed) as ds:
        for record in list(ds)[:5]:
            assert re.search(rf"{record.index} +at byte {record.offset:,} ", out)
    assert all(line == line.rstrip() for line in out.splitlines())


def test_info_of_a_split_and_of_a_file(mixed, capsys):
    assert main(["info", str(mixed), "--split", "test"]) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[0] == str(mixed / "test")
    assert main(["info", str(mixed / "test")]) == 0
    assert capsys.readouterr().out == first


def test_info_of_one_size(tmp_path, capsys):
    data.make_uniform(tmp_path, 10)
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "8, all alike" in out
    assert "64 x 64 x 1 " in out
    assert "3 a record" in out


def test_info_without_json_and_without_records(mixed, tmp_path, capsys):
    bare = tmp_path / "train"
    bare.write_bytes((mixed / "train").read_bytes())
    assert main(["info", str(bare)]) == 0
    out = capsys.readouterr().out
    assert "param_2" in out
    assert "info JSON" not in out
    bare.write_bytes(b"")
    assert main(["info", str(bare)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"records +0", out)
    assert "first records" not in out


def test_info_tells_warnings_as_lines(mixed, capsys):
    path = mixed / data.INFO_NAME
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "train_samples": 7}))
    assert main(["info", str(mixed)]) == 0
    out, err = capsys.readouterr()
    assert "32, of mixed sizes" in out
    assert err.startswith("mapix: warning: ")
    assert "7 samples" in err
    assert err.count("\n") == 1


def test_what_is_no_vimh_dataset_is_shown_by_its_repr():
    assert describe([1, 2]) == "[1, 2]"


# --- errors ---------------------------------------------------------------------------------------


def test_errors_are_one_line(mixed, tmp_path, capsys):
    assert "No such file" in failed(capsys, "info", str(tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no format recognises it" in failed(capsys, "info", str(empty))
    assert "no split 'dev'" in failed(capsys, "info", str(mixed), "--split", "dev")
    assert "is a file" in failed(capsys, "info", str(mixed / "train"), "--split", "test")
    with open(mixed / "train", "r+b") as f:
        f.truncate(5000)
    assert "whole record" in failed(capsys, "info", str(mixed))


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
    [(["--version"], 0, mapix.__version__), (["--help"], 0, "demo"), ([], 2, "COMMAND")],
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
    assert done.returncode in (0, 1)  # 0 where all was written before the reader went
    assert err == b""


def test_command_line_loads_nothing_heavy_before_it_must():
    code = (
        "import sys, mapix.__main__\n"
        "print([m for m in ('mapix.demo', 'mapix.vimh', 'PIL', 'subprocess') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_output_of_a_terminal_that_knows_ascii_only(mixed):
    info = json.loads((mixed / data.INFO_NAME).read_text())
    (mixed / data.INFO_NAME).write_text(json.dumps({**info, "dataset_name": "kl\u00e4nge"}))
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
    assert "7 in" in said
    assert "even: 4" in said
    assert main(["info", str(golden / "iid" / "empty_0seg.iid")]) == 0
    assert main(["info", str(golden / "idx" / "be_u8_3x4x5.idx")]) == 0
    assert "(3, 4, 5)" in capsys.readouterr().out
    assert main(["info", str(golden / "vimh" / "mnist_28x28x1_1p" / "train_batch")]) == 0
    assert "VIMH pickle" in capsys.readouterr().out


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
