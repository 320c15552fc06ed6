"""The push door over real HTTP: who may knock, what is believed, what the ledger makes of it."""

from functools import partial

import httpx
import pytest
from pydantic import SecretStr

from catalog.api import create_app
from catalog.api.push import PATH, register_push
from catalog.ledger import SceneState
from flows.assembly import assemble
from flows.watching import take_notification
from infra.settings import ApiSettings
from tests.integration.test_watch import NOW, configured, look, source
from tests.replayed import replayed, stac_item
from tests.served import served

TOKEN = "a-long-enough-token"


@pytest.fixture
def archive():
    with replayed(stac_item(0), stac_item(1, name="far", outline=(40.0, 10.0, 41.0, 11.0))) as archive:
        yield archive


@pytest.fixture
def door(tmp_path, archive):
    """An open door to a fresh ledger."""
    yield from opened(tmp_path, archive, ApiSettings(push_token=SecretStr(TOKEN), push_per_minute=30))


def opened(tmp_path, archive, api):
    settings = configured(tmp_path, [source(archive, "one")], api=api)
    with assemble(settings) as assembly:
        push = partial(register_push, take=partial(take_notification, assembly))
        with served(create_app(assembly.database, settings, routes=[push])) as url, httpx.Client(base_url=url) as http:
            yield http, assembly


def knock(http, body, token=TOKEN):
    return http.post(PATH, json=body, headers={"Authorization": f"Bearer {token}"})


def test_a_notified_item_is_looked_up_and_enters_the_ledger_as_a_look_would_bring_it(door):
    http, assembly = door
    told = {"source": "one", "item": stac_item(0)["id"], "href": "http://elsewhere.example", "assets": {"B02": "evil"}}
    answer = knock(http, told)
    assert answer.status_code == 200, answer.text
    (delivery,) = answer.json()["deliveries"]
    row = assembly.ledger.scene(delivery["scene"])
    assert (delivery["outcome"], row.source_item, row.state) == ("new", stac_item(0), SceneState.DISCOVERED)
    assert assembly.ledger.history(row.id)[0].actor == "push"
    assert knock(http, told).json()["deliveries"][0]["outcome"] == "known"
    assert look(assembly, NOW).outcomes == {"known": 1}
    assert len(assembly.ledger.scenes()) == 1


@pytest.mark.parametrize("token", ["-", "wrong", TOKEN + "x", TOKEN[:-1]])
def test_without_the_token_nothing_is_asked_or_written(door, archive, token):
    http, assembly = door
    answer = knock(http, {"source": "one", "item": stac_item(0)["id"]}, token=token)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert archive.asked == []
    assert assembly.ledger.scenes() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"source": "one", "item": "unheard-of"}, 404),
        ({"source": "two", "item": "x"}, 404),
        ({"source": "one"}, 400),
        ({"source": "one", "item": "a b"}, 400),
        ({"source": "one", "item": "x" * 300}, 400),
        ([], 400),
        ({"source": "one", "item": "x", "padding": "y" * 5000}, 413),
    ],
)
def test_what_is_no_notification_is_refused(door, body, status):
    http, assembly = door
    answer = knock(http, body)
    assert answer.status_code == status, answer.text
    assert assembly.ledger.scenes() == []


def test_an_id_cannot_lead_to_another_address(door, archive):
    http, _ = door
    assert knock(http, {"source": "one", "item": "../../secret?x=1#y"}).status_code == 404
    assert archive.asked[-1][1].endswith("/items/..%2F..%2Fsecret%3Fx%3D1%23y")


def test_an_item_over_no_region_is_said_to_be_elsewhere(door):
    http, assembly = door
    assert knock(http, {"source": "one", "item": "far"}).json()["outcome"] == "elsewhere"
    assert assembly.ledger.scenes() == []


def test_a_silent_source_is_told_and_the_sender_may_come_again(door, archive):
    http, _ = door
    archive.down = True
    answer = knock(http, {"source": "one", "item": "x"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    assert archive.url not in answer.text


def test_knocking_is_limited_for_those_without_the_token_too(tmp_path, archive):
    for http, _ in opened(tmp_path, archive, ApiSettings(push_token=SecretStr(TOKEN), push_per_minute=3)):
        codes = [knock(http, {}, token="guess").status_code for _ in range(4)]
        assert codes == [401, 401, 401, 429]
        assert int(knock(http, {}).headers["Retry-After"]) >= 1


def test_the_door_is_closed_unless_configured(tmp_path, archive):
    for http, _ in opened(tmp_path, archive, ApiSettings()):
        assert knock(http, {"source": "one", "item": "x"}).status_code in {404, 405}
