"""stac-api-validator with published schemas read from a file instead of the internet; runs in the validator's venv.

``python validate_api.py SCHEMAS.json ARGUMENTS…``: the file holds schemas by their address, the arguments are the
validator's own. Everything else that it asks for goes to the server under test as always.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import requests
from requests.models import Response
from stac_api_validator.__main__ import main


def answer_from(schemas: dict[str, dict]) -> None:
    """Let every request for a known schema be answered from memory."""
    ask = requests.Session.request

    def request(session, method, url, *more, **named):
        known = schemas.get(str(url).rstrip("#"))
        if known is None:
            return ask(session, method, url, *more, **named)
        answer = Response()
        answer.status_code, answer.url, answer.encoding = 200, str(url), "utf-8"
        answer._content = json.dumps(known).encode()
        return answer

    requests.Session.request = request


if __name__ == "__main__":
    answer_from(json.loads(Path(sys.argv.pop(1)).read_text(encoding="utf-8")))
    main()
