"""Promises of the catalogue: complete, consistent, and the table in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xmodal_cli.datasets.downloads.catalogue import FILES, SETS, as_markdown
from xmodal_cli.datasets.downloads.entries import PublishedFile
from xmodal_cli.web.promises import promise

PAGE = Path(__file__).parents[3] / "docs" / "download.md"


@pytest.mark.parametrize("file", FILES.values(), ids=list(FILES))
def test_every_file_says_what_it_is_and_where_that_was_learned(file: PublishedFile) -> None:
    assert file.urls
    assert all(re.match(r"(https?|ftp)://", url) for url in file.urls)
    assert all(word in ("", word.strip()) for word in (file.what, file.source, file.elsewhere))
    assert file.what
    assert file.source
    assert file.elsewhere
    assert not (file.size and file.about)
    if file.hash:
        assert promise(file.hash, "").whole
        assert re.fullmatch(r"[0-9a-f]+", promise(file.hash, "").digits)


def test_names_mean_one_file_each() -> None:
    for each in SETS.values():
        assert all(FILES[file.name] is file for file in each.files)
        assert each.licence
        assert each.page
    assert not SETS.keys() & FILES.keys()


def test_the_raw_video_has_all_parts() -> None:
    assert len(SETS["nyud2-raw"].files) == 39
    assert {file.sidecar for file in SETS["nyud2-raw"].files} == {".md5"}


def test_the_table_in_the_docs_is_the_catalogue() -> None:
    assert as_markdown() in PAGE.read_text()
