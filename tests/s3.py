"""An S3-compatible server in a process of its own (moto), which asks for a key as the real one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.ports import free_port

BUCKET, REGION = "artifacts", "us-east-1"
_FREE_ACTIONS = 1_000_000
_POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


@dataclass
class S3Server:
    """Holds everything in memory: what a stop would lose is kept here, as a disk would."""

    port: int
    process: subprocess.Popen[bytes] | None = None
    key: tuple[str, str] = ("", "")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """What the one process needs that may read and write here."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key[0],
            "AWS_SECRET_ACCESS_KEY": self.key[1],
            "AWS_DEFAULT_REGION": REGION,
        }

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        environment = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": str(_FREE_ACTIONS)}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def open_bucket(self, objects: dict[str, bytes] | None = None) -> None:
        """A bucket with these objects, for everybody until there is a key."""
        client = self.client()
        client.create_bucket(Bucket=BUCKET)
        for name, content in (objects or {}).items():
            client.put_object(Bucket=BUCKET, Key=name, Body=content)

    def change_key(self) -> None:
        """Makes a key, without which nobody gets to the bucket from now on."""
        users = self.client("iam")
        users.create_user(UserName="mlflow")
        users.put_user_policy(UserName="mlflow", PolicyName="all", PolicyDocument=json.dumps(_POLICY))
        made = users.create_access_key(UserName="mlflow")["AccessKey"]
        self.key = (made["AccessKeyId"], made["SecretAccessKey"])
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", b"0", headers)
        urllib.request.urlopen(request, timeout=10).close()

    def objects(self) -> dict[str, bytes]:
        client = self.client()
        names = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
        return {name: client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}

    def client(self, service: str = "s3") -> Any:
        import boto3

        key, secret = self.key if any(self.key) else ("anybody", "anything")
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret
        )

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/moto-api/", timeout=2) as reply:
            return bool(reply.status == 200)
        return False


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A running server with an open bucket."""
    server = S3Server(free_port())
    try:
        server.start()
        server.open_bucket()
        server.change_key()
        yield server
    finally:
        server.stop()
