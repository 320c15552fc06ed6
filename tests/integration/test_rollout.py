"""Two sets of weights on a real scene: tried in the shadow, promoted, recorded in what is made, rolled back."""

import hashlib
import shutil
from dataclasses import replace

import pytest
from safetensors.numpy import load, save
from sqlalchemy import text
from typer.testing import CliRunner

from catalog.model_item import model_item_id
from catalog.releases import NothingToRollBack, releases
from flows.assembly import WeightsChanged, assemble
from flows.cli import app
from flows.doctor import examine
from flows.names import product_revision
from flows.rollout import RANGES_NM, promote, roll_back, shadow
from flows.watching import watch_sources
from model.card import SHIPPED_WEIGHTS, WEIGHTS_NAME, load_card
from model.duality import load_model
from model.parameters import write_weights


@pytest.fixture
def other(tmp_path):
    """The shipped weights under another name and digest, as a retraining would leave them."""
    content = save(load((SHIPPED_WEIGHTS / WEIGHTS_NAME).read_bytes()), metadata={"trained": "again"})
    card = replace(load_card(), version="9.9.9", digest=hashlib.sha256(content).hexdigest())
    write_weights(tmp_path / "other", content, card)
    return tmp_path / "other"


@pytest.fixture
def published(operator_settings):
    """A ledger with one scene that counts as published."""
    with assemble(operator_settings) as assembly:
        watch_sources(assembly, actor="test")
        row = next(row for row in assembly.ledger.due() if "reject" not in row.source_item_id)
        with assembly.database.write() as session:
            session.execute(text("UPDATE scenes SET state = 'published' WHERE id = :i"), {"i": row.id})
        yield assembly


def test_the_shadow_tells_where_two_models_differ_and_writes_nothing(published):
    before = published.ledger.counts()
    (same,) = shadow(published, load_model(None, "cpu"))
    assert all(one.bias == one.rms == 0 for one in same.ranges)
    assert same.refused_present == same.refused_candidate
    assert set(same.drift.values()) == {0.0}
    (one,) = shadow(published, load_model(None, "cpu", learned=False))
    assert [(r.low_nm, r.high_nm) for r in one.ranges] == list(RANGES_NM)
    assert all(r.rms > 0 and r.rms >= abs(r.bias) and r.sigma_candidate > 0 for r in one.ranges)
    assert any(one.drift.values())
    assert published.ledger.counts() == before
    assert list(published.store.list()) == []


def test_promoted_weights_are_in_force_and_in_every_product_s_identity_until_rolled_back(operator_settings, other):
    with assemble(operator_settings) as assembly:
        first = assembly.model.card
        assert promote(assembly, other, actor="ann", why="try", dry_run=True).digest != first.digest
        assert releases(assembly.database) == []
        done = promote(assembly, other, actor="ann", why="better in the red edge")
    with assemble(operator_settings) as assembly:
        card = assembly.model.card
        assert (card.version, card.digest) == ("9.9.9", done.digest)
        assert model_item_id(card) == done.model
        found = next(assembly.source("patches").search(assembly.regions[0], done.at.replace(year=1990)))
        names = {
            product_revision(found, assembly.regions[0], assembly.settings.product, each.digest)
            for each in (first, card)
        }
        assert len(names) == 2
        roll_back(assembly, actor="bob", why="worse in the dark")
    with assemble(operator_settings) as assembly:
        assert assembly.model.card.digest == first.digest
        told = [(one.action, one.actor, one.why) for one in releases(assembly.database)]
        assert told == [("rollback", "bob", "worse in the dark"), ("promote", "ann", "better in the red edge")]
        with pytest.raises(NothingToRollBack):
            roll_back(assembly, actor="bob", why="further")


def test_weights_that_changed_under_a_promotion_are_refused(operator_settings, other):
    with assemble(operator_settings) as assembly:
        promote(assembly, other, actor="ann", why="try")
    shutil.rmtree(other)
    shutil.copytree(SHIPPED_WEIGHTS, other)
    with assemble(operator_settings) as assembly, pytest.raises(WeightsChanged, match="promoted was"):
        _ = assembly.model
    [found] = [one for one in examine(operator_settings) if one.part == "model"]
    assert not found.healthy
    assert "promoted was" in found.found


def test_the_doctor_looks_at_the_model_in_force(operator_settings, other):
    [before] = [one for one in examine(operator_settings) if one.part == "model"]
    assert "in force by the settings" in before.found
    with assemble(operator_settings) as assembly:
        promote(assembly, other, actor="ann", why="try")
    [after] = [one for one in examine(operator_settings) if one.part == "model"]
    assert after.healthy
    assert "9.9.9" in after.found
    assert "by ann" in after.found


@pytest.mark.usefixtures("operator_settings")
def test_the_verbs(other):
    def typed(*words):
        answer = CliRunner().invoke(app, ["model", *words])
        assert answer.exit_code == 0, answer.output
        return answer.output

    assert "would be in force" in typed("promote", str(other), "--reason", "try", "--dry-run")
    assert "is in force" in typed("promote", str(other), "--reason", "try")
    assert "is in force again" in typed("rollback", "--reason", "back")
    assert typed("history").count("by cli") == 2
