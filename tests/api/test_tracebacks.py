"""Tracebacks beside a run's results: their files, and what is said of them."""

from ptqbench.api.tracebacks import write_tracebacks
from ptqbench.commands.output import tell_failures


def test_a_cell_that_failed_has_a_file_and_a_line_that_names_it(tmp_path, capsys):
    cells = ["a/W4A8/seed0", "b/W4A8/seed0"]
    written = write_tracebacks(tmp_path, cells, {cells[1]: "Traceback ..."})
    path = tmp_path / "errors" / "b-W4A8-seed0.txt"
    assert written == {cells[1]: path}
    assert path.read_text() == "Traceback ..."
    tell_failures({cells[1]: "it broke\n  mend it"}, written)
    assert capsys.readouterr().err == f"b/W4A8/seed0 failed: it broke; traceback: {path}\n"
    # The next run into the same folder: what no longer fails has no file, and files of others are left alone.
    (path.parent / "notes.txt").write_text("mine")
    assert write_tracebacks(tmp_path, cells, {}) == {}
    assert [p.name for p in path.parent.iterdir()] == ["notes.txt"]


def test_without_failures_no_folder_is_made(tmp_path):
    write_tracebacks(tmp_path / "out", ["a/W4A8/seed0"], {})
    assert not (tmp_path / "out").exists()


def test_any_variant_has_a_file_of_its_own(tmp_path):
    cells = [f'a/W4A8/weighter={{"use": "{"x" * 300}{i}"}}/seed0' for i in range(2)] + ["a/W4A8/x=[1, 2]", "a/W4A8/x=(1, 2)"]
    write_tracebacks(tmp_path, cells, {cell: cell for cell in cells})
    assert sorted(p.read_text() for p in (tmp_path / "errors").iterdir()) == sorted(cells)
