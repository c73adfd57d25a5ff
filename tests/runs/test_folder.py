"""Promises of the run folder: names, locks, the latest link, and what is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xmodal_cli.errors import DataError, SettingsError
from xmodal_cli.runs import folder
from xmodal_cli.runs.folder import LATEST, RunFolder, create, latest, open_run

CONFIG = {"command": "distill", "settings": {"lr": 1.0}}
HOLD = """
import sys, time
from pathlib import Path
from xmodal_cli.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1]), "distill"):
    print("locked", flush=True)
    time.sleep(100)
"""


def begun(root: Path, name: str | None = "mine", **options: bool) -> RunFolder:
    run = create(root, "distill", name, default_name="net-hha", **options)
    run.write_start(CONFIG)
    run.unlock()
    return run


def finished(root: Path, name: str) -> RunFolder:
    run = begun(root, name)
    run.finish({"made": name})
    return run


def test_default_names_say_what_and_when_and_never_collide(tmp_path: Path) -> None:
    names = {begun(tmp_path, None).path.name for _ in range(4)}
    assert len(names) == 4
    assert all(name.startswith("net-hha-20") for name in names)


@pytest.mark.parametrize("name", ["latest", "a/b", "..", ".", "", ".lock", "/tmp/x"])
def test_names_that_are_no_folder_of_their_own_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be the name"):
        create(tmp_path, "distill", name, default_name="x")


def test_used_folder_is_refused_with_both_ways_on(tmp_path: Path) -> None:
    run = begun(tmp_path)
    with pytest.raises(SettingsError) as caught:
        begun(tmp_path)
    assert f"xmodal distill --resume {run.path}" in str(caught.value.hint)
    assert "--overwrite" in str(caught.value.hint)
    assert (run.path / folder.CONFIG).is_file()


def test_folder_of_a_run_killed_before_it_wrote_anything_can_be_used(tmp_path: Path) -> None:
    create(tmp_path, "distill", "mine", default_name="x").unlock()
    assert begun(tmp_path).config() == CONFIG


def test_overwrite_leaves_nothing_of_the_run_before(tmp_path: Path) -> None:
    run = finished(tmp_path, "mine")
    (run.path / "pictures").mkdir()
    (run.path / "pictures" / "old.png").touch()
    again = create(tmp_path, "distill", "mine", default_name="x", overwrite=True)
    assert [path.name for path in again.path.iterdir()] == [folder.LOCK]
    again.unlock()


def test_run_at_work_is_refused_even_to_overwrite_and_free_once_its_process_is_killed(tmp_path: Path) -> None:
    run = begun(tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(SettingsError, match="Another process"), run:
        pass
    with pytest.raises(SettingsError, match="Another process"):
        begun(tmp_path, overwrite=True)
    assert (run.path / folder.CONFIG).is_file()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with run:
        assert run._lock is not None


def test_lock_is_given_back_at_the_end_of_the_block_even_after_an_error(tmp_path: Path) -> None:
    run = begun(tmp_path)
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError
    with run, pytest.raises(SettingsError), RunFolder(run.path, "distill"):
        pass


def test_half_written_files_of_a_killed_process_are_cleared_when_the_run_is_taken(tmp_path: Path) -> None:
    run = begun(tmp_path)
    left = [run.path / ".card.json.123.part", run.checkpoints / ".last.pt.123.part"]
    for path in left:
        path.touch()
    with run:
        assert not any(path.exists() for path in left)


def test_latest_links_to_the_newest_finished_run(tmp_path: Path) -> None:
    finished(tmp_path, "first")
    finished(tmp_path, "second")
    begun(tmp_path, "unfinished")
    assert (tmp_path / "distill" / LATEST).is_symlink()
    assert latest(tmp_path, ("distill",)).path.name == "second"
    assert open_run(tmp_path / "distill" / LATEST).card() == {"made": "second"}
    assert not list((tmp_path / "distill").glob(f".{LATEST}.*"))


def test_folders_can_be_moved_with_their_link(tmp_path: Path) -> None:
    finished(tmp_path / "here", "only")
    (tmp_path / "here").rename(tmp_path / "there")
    assert latest(tmp_path / "there", ("distill",)).path.name == "only"


def test_no_finished_run_is_said_plainly(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(SettingsError, match="No finished run"):
        latest(tmp_path, ("distill",))


def test_unfinished_run_has_no_card_and_says_how_to_go_on(tmp_path: Path) -> None:
    run = begun(tmp_path)
    assert not run.finished
    with pytest.raises(DataError) as caught:
        run.card()
    assert "--resume" in str(caught.value.hint)


def test_what_is_no_run_is_refused_and_runs_nearby_are_named(tmp_path: Path) -> None:
    run = begun(tmp_path)
    (tmp_path / "distill" / "empty").mkdir()
    for path in (tmp_path / "distill" / "empty", tmp_path / "distill" / "absent"):
        with pytest.raises(SettingsError) as caught:
            open_run(path, "distill")
        assert str(run.path) in str(caught.value.hint)
    with pytest.raises(SettingsError, match="run of `xmodal distill`, not of `xmodal finetune`"):
        open_run(run.path, "finetune")


@pytest.mark.parametrize("content", ["", "just words", "- a\n- list", "command: distill", "{", "\x00"])
def test_broken_config_is_reported_not_trusted(content: str, tmp_path: Path) -> None:
    run = begun(tmp_path)
    (run.path / folder.CONFIG).write_text(content)
    with pytest.raises(DataError):
        open_run(run.path)
