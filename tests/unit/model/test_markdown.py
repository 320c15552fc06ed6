"""Marks in the chapters are filled, and nothing else is touched."""

from __future__ import annotations

import pytest

from model.evaluation.markdown import rewrite


def test_marks_are_filled_and_the_rest_is_left_alone():
    text = "a\n<!-- begin x -->\nold\nolder\n<!-- end x -->\nb\n"
    assert rewrite(text, {"x": r"\1 new"}) == "a\n<!-- begin x -->\n\\1 new\n<!-- end x -->\nb\n"
    assert rewrite(rewrite(text, {"x": "1"}), {"x": "2"}) == rewrite(text, {"x": "2"})
    with pytest.raises(ValueError, match="'y'"):
        rewrite(text, {"y": "1"})
