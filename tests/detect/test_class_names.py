"""Promises of class names: what is given wins, and what means nothing is not spoken of."""

from __future__ import annotations

import pytest

from xmodal_cli.detect.class_names import match_classes, match_runs
from xmodal_cli.errors import SettingsError
from xmodal_cli.models.torchvision_detectors import detector_classes

COCO = detector_classes("fasterrcnn_resnet50_fpn")
NYUD2 = (
    "bathtub bed bookshelf box chair counter desk door dresser garbage-bin lamp monitor night-stand pillow sink sofa"
)
NYUD2_CLASSES = [*NYUD2.split(), "table", "television", "toilet"]


def test_the_seven_classes_that_coco_and_nyud2_share_are_found() -> None:
    found = match_classes(COCO, NYUD2_CLASSES)
    assert {NYUD2_CLASSES[index] for index in found.known()} == {
        *("bed", "chair", "sink", "sofa", "table", "television", "toilet")
    }
    assert found.renamed == {"couch": "sofa", "dining table": "table", "tv": "television"}


def test_a_given_class_wins_over_one_that_is_known_by_another_word() -> None:
    found = match_classes(["couch", "armchair"], ["sofa"], {"armchair": "sofa"})
    assert found.labels.tolist() == [-1, 0]
    assert found.unknown == ("couch",)


def test_two_classes_given_as_one_are_refused() -> None:
    with pytest.raises(SettingsError, match="couch and armchair cannot both be sofa"):
        match_classes(["couch", "armchair"], ["sofa"], {"couch": "sofa", "armchair": "sofa"})


def test_numbers_of_coco_that_mean_nothing_are_not_counted() -> None:
    found = match_classes(COCO, ["bed"])
    assert len(found.unknown) == 79
    assert "N/A" not in found.unknown


def made_with(**pairs: str) -> dict[str, object]:
    return {"settings": {"class_names": pairs}}


def test_pairs_that_a_run_was_made_with_hold_until_others_are_given() -> None:
    detector, data, run = ["couch", "armchair"], ["sofa"], made_with(armchair="sofa")
    assert match_runs([run], detector, data).labels.tolist() == [-1, 0]
    assert match_runs([{}, run], detector, data).labels.tolist() == [-1, 0]
    assert match_runs([run], detector, data, {"couch": "sofa"}).labels.tolist() == [0, -1]
    assert match_runs([run], detector, data, {}).labels.tolist() == [0, -1]


def test_pairs_of_another_data_set_do_not_count() -> None:
    assert match_runs([made_with(couch="settee")], ["couch"], ["sofa"]).renamed == {"couch": "sofa"}


def test_runs_made_with_different_pairs_are_not_fused_in_silence() -> None:
    runs = [made_with(armchair="sofa"), made_with(couch="sofa")]
    with pytest.raises(SettingsError, match="armchair=sofa against couch=sofa"):
        match_runs(runs, ["couch", "armchair"], ["sofa"])
    assert match_runs(runs, ["couch", "armchair"], ["sofa"], {"couch": "sofa"}).renamed == {"couch": "sofa"}
