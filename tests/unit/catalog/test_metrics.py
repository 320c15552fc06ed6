"""The numbers that Prometheus is told, asked of a served application and parsed by Prometheus' own parser."""

import re
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from catalog.api import create_app
from catalog.ledger import SceneState
from catalog.metrics import MAX_CLASSES, ledger_figures
from catalog.session import connect
from tests.served import served
from tests.unit.catalog.products import discovery, item, put_online, settings, take

ALERTS = Path(__file__).parents[3] / "infra/deploy/prometheus/alerts.yaml"
CHAPTER = Path(__file__).parents[3] / "docs/10-deploy.md"


def told(address: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a scrape by name and labels."""
    text = httpx.get(f"{address}/metrics").raise_for_status().text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def seen(ledger, number: int) -> int:
    return ledger.discover([discovery(number)], actor="test")[0].scene_id


def fail(ledger, number: int, error_class: str) -> None:
    claim = take(ledger, seen(ledger, number))
    ledger.fail(claim, error_class=error_class, message="broken", transient=False)


def test_an_empty_ledger_tells_every_state_as_none(database):
    figures = ledger_figures(database)
    assert figures.scenes == dict.fromkeys(SceneState, 0)
    assert (figures.oldest_waiting, figures.last_discovered, figures.last_published) == (None, None, None)


def test_scenes_failures_and_publications_are_told(database, ledger, tmp_path):
    claim = take(ledger, seen(ledger, 0))
    put_online(database, ledger, claim, item(), settings(tmp_path))
    fail(ledger, 1, "UnreadableRaster")
    waiting = ledger.scene(seen(ledger, 2))
    with served(create_app(database, settings(tmp_path))) as address:
        samples = told(address)
    assert samples["explains2a_scenes", (("state", "published"),)] == 1
    assert samples["explains2a_scenes", (("state", "discovered"),)] == 1
    assert samples["explains2a_failures", (("error_class", "UnreadableRaster"),)] == 1
    assert samples["explains2a_ledger_up", ()] == 1
    assert samples["explains2a_backlog_age_seconds", ()] > 0
    figures = ledger_figures(database)
    assert figures.last_discovered == waiting.discovered_at
    assert samples["explains2a_last_publication_timestamp_seconds", ()] == figures.last_published.timestamp()


def test_rare_error_classes_are_counted_together(database, ledger):
    for number in range(MAX_CLASSES + 3):
        fail(ledger, number, f"Error{number:02}")
    fail(ledger, 90, "Error22")
    failures = ledger_figures(database).failures
    assert len(failures) == MAX_CLASSES + 1
    assert failures["Error22"] == 2
    assert failures["other"] == 3
    assert sum(failures.values()) == MAX_CLASSES + 4


def test_requests_are_counted_by_route_and_never_by_address(database, tmp_path):
    with served(create_app(database, settings(tmp_path))) as address:
        for number in range(5):
            httpx.get(f"{address}/collections/none-{number}")
            httpx.get(f"{address}/nowhere/{number}")
        httpx.request("BREW", f"{address}/health")
        httpx.get(f"{address}/health")
        samples = told(address)
    requests = {labels: value for (name, labels), value in samples.items() if name == "explains2a_http_requests_total"}
    assert requests[("method", "GET"), ("route", "/collections/{collection_id}"), ("status", "404")] == 5
    assert requests[("method", "GET"), ("route", "none"), ("status", "404")] == 5
    assert requests[("method", "GET"), ("route", "/health"), ("status", "200")] == 1
    assert any(dict(labels)["method"] == "other" for labels in requests)
    assert samples["explains2a_http_request_seconds_count", (("route", "none"),)] == 5


def test_a_database_that_does_not_answer_is_a_figure_not_an_error(tmp_path):
    gone = connect(f"sqlite:///{tmp_path}/nothing/catalog.sqlite")
    with served(create_app(gone, settings(tmp_path))) as address:
        samples = told(address)
    assert samples["explains2a_ledger_up", ()] == 0
    gone.close()


def test_every_alarm_asks_for_figures_that_exist_and_is_explained(database, ledger, tmp_path):
    claim = take(ledger, seen(ledger, 0))
    put_online(database, ledger, claim, item(), settings(tmp_path))
    fail(ledger, 1, "UnreadableRaster")
    with served(create_app(database, settings(tmp_path))) as address:
        httpx.get(f"{address}/health")
        known = {name: dict(labels).keys() for name, labels in told(address)}
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"page", "warn"}
        assert rule["annotations"]["summary"]
        assert rule["expr"].count("(") == rule["expr"].count(")")
        asked = re.findall(r"\bexplains2a_\w+", rule["expr"])
        assert asked
        assert set(asked) <= known.keys()
        for name, selector in re.findall(r"\b(explains2a_\w+)\{([^}]*)\}", rule["expr"]):
            assert set(re.findall(r"(\w+)[!=]", selector)) <= known[name]
        assert f"`{rule['alert']}`" in CHAPTER.read_text()


@pytest.mark.parametrize("name", ["explains2a_scenes", "explains2a_failures"])
def test_states_and_classes_are_labels_not_names(name, database, tmp_path):
    with served(create_app(database, settings(tmp_path))) as address:
        families = {f.name: f for f in text_string_to_metric_families(httpx.get(f"{address}/metrics").text)}
    assert families[name].type == "gauge"
