"""RAR files, which Python cannot read: turned into a stream of tar by whichever program is installed.

`bsdtar` (libarchive) does it in one go. `unar` and `unrar` unpack into a folder of their own first; what lies there is
then read like any archive, so that the same rules hold for all.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from xmodal_cli.errors import DataError, SettingsError

# What follows the name of a program that unpacks an archive into a folder.
UNPACKERS: dict[str, Callable[[str, str], list[str]]] = {
    "unar": lambda archive, folder: ["-quiet", "-no-directory", "-output-directory", folder, archive],
    "unrar": lambda archive, folder: ["x", "-inul", "-p-", "-y", archive, f"{folder}/"],
}
LAST_WORDS = 300  # characters of what a program said before it failed


@contextlib.contextmanager
def as_tar(archive: Path) -> Iterator[IO[bytes]]:
    """The members of a RAR file as an uncompressed tar stream.

    Raises:
        SettingsError: no program that reads RAR is installed.
        DataError: the program could not read the file to its end.
    """
    if program := shutil.which("bsdtar"):
        with _piped([program, "-cf", "-", f"@{archive.resolve()}"], archive) as stream:
            yield stream
        return
    for name, words_of in UNPACKERS.items():
        if program := shutil.which(name):
            with tempfile.TemporaryDirectory(prefix=".unrar-", dir=archive.parent) as folder:
                _run([program, *words_of(str(archive), folder)], archive)
                with _tarred(Path(folder)) as stream:
                    yield stream
            return
    raise SettingsError(
        f"{archive.name} is a RAR file, and no program that reads them was found (bsdtar, unar, unrar).",
        "Debian and Ubuntu: apt-get install libarchive-tools. macOS has bsdtar. conda: conda install libarchive. "
        "The same videos as a zip: xmodal download ucf101-zip.",
    )


@contextlib.contextmanager
def _piped(words: list[str], archive: Path) -> Iterator[IO[bytes]]:
    """What a program writes to stdout; it must end well, unless the reader already failed."""
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout
            process.stdout.read()  # what a tar has behind its end
        except BaseException:
            process.kill()
            raise
        if process.wait() != 0:
            said.seek(0)
            raise _unreadable(archive, words, said.read())


def _run(words: list[str], archive: Path) -> None:
    done = subprocess.run(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        raise _unreadable(archive, words, done.stderr)


def _unreadable(archive: Path, words: list[str], said: bytes) -> DataError:
    text = said.decode(errors="replace").strip()[-LAST_WORDS:]
    return DataError(
        f"{Path(words[0]).name} could not read it: {text or 'it said nothing'}.", f"Fetch {archive.name} again."
    )


@contextlib.contextmanager
def _tarred(folder: Path) -> Iterator[IO[bytes]]:
    """A folder as a tar file that exists only while it is read."""
    with tempfile.TemporaryFile(dir=folder.parent) as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path in sorted(folder.rglob("*")):
                tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
        packed.seek(0)
        yield packed
