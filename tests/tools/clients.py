"""Other people's clients against a real server: ``python -m tests.tools.clients FOLDER [CLIENT…]``, or `make clients`.

The folder is filled with the demonstration's six real products by the product's own verbs, `explains2a serve` answers
for them, and a small web server gives out their files. Each client is installed into an environment of its own below
the folder, once. Ends with 1 if one of them finds an error.

=============  ========================================================================================================
products       pystac-client finds the products, odc-stac and rasterio open their files over HTTP and agree
validator      stac-api-validator: core, collections, features, item-search, filter
schemathesis   some thousand requests that the OpenAPI document allows or forbids: none may be a server error
browser        STAC Browser, built by npm against this server and opened in headless Chromium: a picture to look at
=============  ========================================================================================================
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import venv
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from infra.demo import build_demo
from tests.contract.stac_schemas import SCHEMAS, published_schemas
from tests.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTION = "explains2a-l3-hsi"
CLASSES = ("core", "collections", "features", "item-search", "filter")
EUROPE = {"type": "Polygon", "coordinates": [[[-20, 30], [40, 30], [40, 70], [-20, 70], [-20, 30]]]}
BROWSER, OL_STAC = "@radiantearth/stac-browser@4.0.1", "ol-stac@1.1.0"  # it does not build with a newer ol-stac
TOOLS = Path(__file__).parent


def main() -> int:
    """Run the clients that were named, or all."""
    checks = {"products": products, "validator": validator, "schemathesis": schemathesis, "browser": browser}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("client", nargs="*", choices=[[], *checks], help="default: all")
    given = parser.parse_args()
    folder = given.folder.resolve()
    with catalog(folder) as address:
        failed = [name for name in given.client or checks if not checks[name](folder, address)]
    say(f"failed: {', '.join(failed)}" if failed else "no client found an error")
    return 1 if failed else 0


@contextmanager
def catalog(folder: Path) -> Iterator[str]:
    """Fill the folder with products where it has none, and serve them."""
    store = folder / "home" / "products"
    store.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        files = held.enter_context(served(_files(store)))
        scenes = build_demo(folder / "scenes")
        config = folder / "explains2a.toml"
        config.write_text(
            f"home = {json.dumps(str(folder / 'home'))}\nregions_file = {json.dumps(str(scenes.regions_file))}\n"
            f"[processing]\nfirst_look_back_days = 36500\n"
            f"[api]\nasset_links = 'https'\nasset_url = '{files}'\n"
            f"[[sources]]\nkind = 'folder'\nname = 'patches'\npath = {json.dumps(str(scenes.items))}\n",
            encoding="utf-8",
        )
        ours = {**os.environ, "EXPLAINS2A_CONFIG": str(config)}
        for verb in (["watch"], ["process", "--due"]):
            run([sys.executable, "-m", "flows.cli", *verb], env=ours, stdout=subprocess.DEVNULL)
        port = _free_port()
        log = held.enter_context((folder / "serve.log").open("w"))
        command = [sys.executable, "-m", "flows.cli", "serve", "--port", str(port), "--workers", "2"]
        server = subprocess.Popen(command, env=ours, stdout=log, stderr=log)
        held.callback(server.wait, 30)
        held.callback(server.terminate)
        address = f"http://127.0.0.1:{port}"
        _await(address)
        yield address


def products(folder: Path, address: str) -> bool:
    """Find and open products."""
    python = environment(folder, "products", "odc-stac", "pystac-client")
    return run([python, str(TOOLS / "open_products.py"), address, COLLECTION], check=False) == 0


def validator(folder: Path, address: str) -> bool:
    """Validate the API; schemas come from the published files instead of the internet."""
    if not SCHEMAS.is_dir():
        raise SystemExit(f"the validator needs the published schemas, which are not at {SCHEMAS}")
    python = environment(folder, "validator", "stac-api-validator")
    schemas = folder / "schemas.json"
    schemas.write_text(json.dumps(published_schemas()), encoding="utf-8")
    asked = [part for name in CLASSES for part in ("--conformance", name)]
    command = [python, str(TOOLS / "validate_api.py"), str(schemas), "--log-level", "ERROR", "--root-url", address]
    return run([*command, "--collection", COLLECTION, "--geometry", json.dumps(EUROPE), *asked], check=False) == 0


def schemathesis(folder: Path, address: str) -> bool:
    """Send what the OpenAPI document allows and forbids."""
    python = environment(folder, "schemathesis", "schemathesis")
    bounds = ["--max-examples", "25", "--max-time", "150", "--request-timeout", "15", "--seed", "7"]
    quiet = ["--generation-database", "none", "--no-color", "--warnings", "off", "--continue-on-failure"]
    command = [str(Path(python).with_name("st")), "run", f"{address}/api", "--checks", "not_a_server_error"]
    return run([*command, *bounds, *quiet], check=False, cwd=folder) == 0


def browser(folder: Path, address: str) -> bool:
    """Build STAC Browser against the server and take a picture of the collection in it."""
    home = folder / "browser"
    built = home / "package" / "dist"
    if not built.is_dir():
        home.mkdir(exist_ok=True)
        run(["npm", "pack", BROWSER], cwd=home)
        run(["tar", "xzf", next(home.glob("*.tgz")).name], cwd=home)
        run(["npm", "install", "--no-audit", "--no-fund", "--save-exact", OL_STAC], cwd=built.parent)
        run(["npx", "vue-cli-service", "build", "--noSourceMaps"], cwd=built.parent)
    (built / "config.js").write_text(f"window.STAC_BROWSER_CONFIG = {json.dumps({'catalogUrl': address})}\n")
    picture = folder / "stac-browser.png"
    picture.unlink(missing_ok=True)
    with _page(built) as site:
        chromium = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        fresh = [f"--user-data-dir={folder / 'chromium'}", "--disk-cache-size=1", "--virtual-time-budget=30000"]
        shot = ["--window-size=1280,1900", f"--screenshot={picture}", f"{site}/collections/{COLLECTION}"]
        run([*chromium, *fresh, *shot], stderr=subprocess.DEVNULL)
    say(f"look at {picture}: the collection, its extent and the pictures of six products")
    return picture.is_file()


def environment(folder: Path, name: str, *packages: str) -> str:
    """Return the Python of a client's own environment, made on first use."""
    home = folder / f"venv-{name}"
    python = str(home / "bin" / "python")
    if not (home / "ready").is_file():
        venv.create(home, with_pip=True, clear=True)
        run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
        (home / "ready").touch()
    return python


def run(command: list[str], *, check: bool = True, **more) -> int:
    """Run a command and say so."""
    say(f"$ {' '.join(command)}")
    return subprocess.run(command, check=check, **more).returncode


def say(text: str) -> None:
    """Tell whoever watches."""
    print(text, flush=True)  # noqa: T201 - this is the answer


def _files(folder: Path) -> Starlette:
    """Product files for pages of other sites, by ranges."""
    readers = Middleware(CORSMiddleware, allow_origins=["*"], allow_headers=["*"], expose_headers=["*"])
    return Starlette(routes=[Mount("/", StaticFiles(directory=folder))], middleware=[readers])


@contextmanager
def _page(folder: Path) -> Iterator[str]:
    """A site whose addresses are all the same page, except those of its files."""

    class Page(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            asked = super().translate_path(path)
            return asked if Path(asked).is_file() else str(folder / "index.html")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Page, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _await(address: str) -> None:
    for _ in range(120):
        try:
            httpx.get(f"{address}/health", timeout=5)
        except httpx.HTTPError:
            time.sleep(1)
        else:
            return
    raise SystemExit("the server did not start; see serve.log")


if __name__ == "__main__":
    sys.exit(main())
