"""Make the secrets of the compose file: random passwords and keys, each in a file of its own, none ever overwritten.

Run it once with any Python 3 before the first start: ``python3 infra/deploy/compose/make_secrets.py``.
"""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path


def make_secrets(folder: Path) -> list[str]:
    """Write what is missing below a folder that only its owner may enter.

    The files themselves are readable: containers see them under their own user, and nobody else gets into the folder.

    Args:
        folder: Where; made when missing.

    Returns:
        Names of the files that were written.

    Raises:
        FileExistsError: some of the files are there and some are not; addresses would not fit the passwords in them.
    """
    own, prefect, access, secret = (secrets.token_hex(24) for _ in range(4))
    contents = {
        "postgres_password": secrets.token_hex(24),
        "explains2a_password": own,
        "prefect_password": prefect,
        "database_url": f"postgresql+psycopg://explains2a:{own}@postgres/explains2a",
        "prefect_database_url": f"postgresql+asyncpg://prefect:{prefect}@postgres/prefect",
        "storage_access_key": access,
        "storage_secret_key": secret,
        "s3_identities": json.dumps({"identities": [{
            "name": "explains2a",
            "credentials": [{"accessKey": access, "secretKey": secret}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }]}),
    }  # fmt: skip
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = [name for name in contents if (folder / name).exists()]
    if there and len(there) < len(contents):
        missing = ", ".join(sorted(contents.keys() - set(there)))
        raise FileExistsError(f"{folder} has some secrets but lacks {missing}; put them back, or remove the folder")
    if there:
        return []
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
        (folder / name).chmod(0o444)
    return list(contents)


if __name__ == "__main__":
    made = make_secrets(Path(__file__).resolve().parent / "secrets")
    sys.stdout.write(f"made {', '.join(made)}\n" if made else "all secrets are there already\n")
