"""Settings are refused at start, with every problem named and no secret shown."""

import json

import pytest

from infra.settings import CONFIG_VARIABLE, SettingsInvalid, load_settings, read_regions

SQUARE = {"type": "Polygon", "coordinates": [[[7, 50], [8, 50], [8, 51], [7, 51], [7, 50]]]}


@pytest.fixture(autouse=True)
def _no_other_settings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)


def regions_file(tmp_path, *features):
    path = tmp_path / "regions.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def feature(identifier="ruhr", geometry=SQUARE, **properties):
    return {"type": "Feature", "id": identifier, "properties": properties, "geometry": geometry}


def test_defaults_need_nothing_but_a_folder(tmp_path):
    settings = load_settings(home=tmp_path / "home")
    assert settings.resolved_database_url == f"sqlite:///{tmp_path / 'home' / 'catalog.db'}"
    assert settings.resolved_storage.url == (tmp_path / "home" / "products").as_uri()


def test_every_problem_is_reported_at_once(monkeypatch):
    monkeypatch.setenv("EXPLAINS2A_STORAGE__URL", "ftp://example")
    monkeypatch.setenv("EXPLAINS2A_DEVICE", "abacus")
    monkeypatch.setenv("EXPLAINS2A_PROCESSING__LEASE_SECONDS", "1")
    with pytest.raises(SettingsInvalid) as refused:
        load_settings()
    message = str(refused.value)
    assert len(message.splitlines()) == 3
    for part in ("storage.url", "device", "processing.lease_seconds"):
        assert part in message


def test_no_message_shows_a_secret(monkeypatch):
    monkeypatch.setenv("EXPLAINS2A_STORAGE__SECRET_KEY", "hush-hush")
    with pytest.raises(SettingsInvalid) as refused:
        load_settings()
    assert "access_key" in str(refused.value)
    assert "hush-hush" not in str(refused.value)


def test_the_environment_wins_over_the_file(monkeypatch, tmp_path):
    config = tmp_path / "operator.toml"
    config.write_text(
        'device = "cpu"\n[api]\nport = 9000\n[[sources]]\nkind = "folder"\nname = "inbox"\npath = "/in"\n'
    )
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    monkeypatch.setenv("EXPLAINS2A_API__PORT", "9001")
    settings = load_settings()
    assert (settings.device, settings.api.port, settings.sources[0].name) == ("cpu", 9001, "inbox")


def test_a_named_file_that_is_missing_is_an_error(monkeypatch):
    monkeypatch.setenv(CONFIG_VARIABLE, "nowhere.toml")
    with pytest.raises(SettingsInvalid, match=r"nowhere\.toml"):
        load_settings()


def test_two_sources_cannot_share_a_name():
    source = {"kind": "folder", "name": "inbox", "path": "/in"}
    with pytest.raises(SettingsInvalid, match="more than once: inbox"):
        load_settings(sources=(source, source))


def test_regions_carry_their_own_limits(tmp_path):
    (region,) = read_regions(regions_file(tmp_path, feature(cloud_limit=0.2, crop=False)))
    assert (region.id, region.cloud_limit, region.crop) == ("ruhr", 0.2, False)


@pytest.mark.parametrize(
    ("geometry", "said"),
    [
        ({"type": "Point", "coordinates": [7, 50]}, "Polygon"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}, "crosses itself"),
        ({"type": "Polygon", "coordinates": [[[400, 0], [500, 0], [500, 9], [400, 0]]]}, "degrees"),
        (None, "geometry"),
    ],
)
def test_an_unusable_region_is_named_with_what_is_wrong(tmp_path, geometry, said):
    path = regions_file(tmp_path, feature("good"), feature("bad", geometry))
    with pytest.raises(ValueError, match="feature 1") as refused:
        read_regions(path)
    assert said in str(refused.value)


def test_two_regions_cannot_share_an_id(tmp_path):
    with pytest.raises(ValueError, match="more than once"):
        read_regions(regions_file(tmp_path, feature("a"), feature("a")))


def test_a_region_file_that_is_missing_is_reported_with_the_settings(tmp_path):
    with pytest.raises(SettingsInvalid, match="regions_file"):
        load_settings(regions_file=tmp_path / "none.geojson")


def test_relative_paths_are_taken_from_the_folder_of_the_file(monkeypatch, tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "explains2a.toml").write_text(
        'home = "data"\n[[sources]]\nkind = "folder"\nname = "in"\npath = "inbox"\n'
    )
    (folder / ".env").write_text("EXPLAINS2A_DEVICE=cpu\n")
    monkeypatch.setenv(CONFIG_VARIABLE, "etc/explains2a.toml")
    settings = load_settings()
    assert (settings.home, settings.sources[0].path) == (folder / "data", folder / "inbox")
    assert settings.device == "cpu"
