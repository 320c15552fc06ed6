"""The chapter on the model says what the shipped card and study say."""

import json
import re
from pathlib import Path

import pytest

from model.card import load_card
from model.evaluation.chapter import SHIPPED_STUDY, blocks, main, targets_table

CHAPTER = Path(__file__).parents[3] / "docs" / "4-model.md"


@pytest.fixture(scope="module")
def study() -> list[dict]:
    return json.loads(SHIPPED_STUDY.read_text())


def test_the_chapter_in_the_repository_is_the_shipped_study(study):
    text = CHAPTER.read_text()
    for name, content in blocks(load_card(), study).items():
        assert f"<!-- begin {name} -->\n{content}\n<!-- end {name} -->" in text, name


def test_the_card_and_the_study_are_of_one_run(study):
    judged = {(row["file"], row["tier"]): row["rmse"] for row in study}
    assert judged == {(row["file"], row["tier"]): row["rmse"] for row in load_card().metrics["left_out"]}


def test_every_target_is_met_or_missed_by_its_number():
    lines = targets_table(load_card()).splitlines()[2:]
    assert len(lines) >= 10
    for line in lines:
        _, _, asked, value, verdict, _ = (part.strip() for part in line.split("|"))
        least = re.fullmatch(r"≥ ([\d.]+)", asked)
        if least and value:
            assert (verdict == "met") == (float(value) >= float(least[1])), line


def test_the_command_renews_what_stands_between_the_marks(tmp_path):
    chapter = tmp_path / "chapter.md"
    chapter.write_text(
        re.sub(
            r"(<!-- begin targets -->\n).*?(<!-- end targets -->)", r"\1old\n\2", CHAPTER.read_text(), flags=re.DOTALL
        )
    )
    assert "old" in chapter.read_text()
    assert main(["--chapter", str(chapter), "--images", str(tmp_path / "images")]) == 0
    assert chapter.read_text() == CHAPTER.read_text()
    assert any((tmp_path / "images").glob("*.png"))
