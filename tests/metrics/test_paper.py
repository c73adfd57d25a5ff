"""Promises of the paper's figures: they are those of the paper, and each can be found by table and row."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.errors import SettingsError
from xmodal_cli.metrics.paper import paper_figure, paper_table

# Read from the paper's Table 1 by hand.
TABLE_1 = {
    "1A": 22.7,
    "1B": 25.1,
    "1C": 29.7,
    "1D": 30.5,
    "2A": 19.8,
    "2B": 30.0,
    "2C": 32.2,
    "2D": 33.6,
    "3A": 22.3,
    "3B": 33.8,
    "3C": 35.6,
    "3D": 37.0,
}


def test_table_1_is_the_papers() -> None:
    table = paper_table("table1")
    assert {row.id: row.mAP for row in table.rows.values()} == TABLE_1
    assert (table.eval_split, table.about["train_split"]) == ("val", "train")
    assert table["2B"].about["trainable"] == "fc_only"
    assert table["3C"].about["inputs"] == ["rgb", "hha"]


def test_means_of_table_5_follow_from_its_classes() -> None:
    rows = paper_table("table5").rows
    assert list(rows) == ["RGB", "D", "RGB+D"]
    for row in rows.values():
        assert set(row.ap) == {"bed", "chair", "sink", "sofa", "table", "television", "toilet"}
        assert np.mean(list(row.ap.values())) == pytest.approx(row.mAP, abs=0.05)


def test_figures_of_the_text_agree_with_the_tables() -> None:
    assert paper_figure("hha_input_val_mAP") == paper_table("table1")["1D"].mAP == paper_table("table4")["pool5"].mAP
    gained = paper_table("table6")["transfer-d"].mAP, paper_table("table6")["gupta-15-fast-rcnn-d"].mAP
    assert gained[0] is not None
    assert gained[1] is not None
    assert 100 * (gained[0] / gained[1] - 1) == pytest.approx(
        paper_figure("depth_only_relative_improvement_percent"), abs=0.5
    )


@pytest.mark.parametrize("number", range(1, 8))
def test_every_table_has_rows_with_figures(number: int) -> None:
    table = paper_table(f"table{number}")
    assert table.rows
    for name, row in table.rows.items():
        assert table[name] is row
        assert row.mAP is not None or "ap_r_0.5" in row.about


def test_wrong_names_get_the_closest_ones() -> None:
    with pytest.raises(SettingsError) as caught:
        paper_table("table9")
    assert "table" in str(caught.value.hint)
    with pytest.raises(SettingsError, match="no row '1F'"):
        paper_table("table1")["1F"]
    with pytest.raises(SettingsError, match="no figure"):
        paper_figure("nothing")
