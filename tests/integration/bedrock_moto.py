"""Somebody else's S3 on loopback, one for the whole session, and buckets in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import boto3

_numbers = count()


@contextmanager
def moto_s3() -> Iterator[str]:
    """The address of moto's server."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def client(service: str, url: str, key: str = "AKIDEXAMPLE") -> Any:
    """boto3 as anybody would use it."""
    session = boto3.session.Session(
        aws_access_key_id=key, aws_secret_access_key="secret", region_name="us-east-1"
    )
    return session.client(service, endpoint_url=url)


def new_bucket(url: str) -> str:
    """A bucket nobody has used before."""
    name = f"bucket-{next(_numbers)}"
    client("s3", url).create_bucket(Bucket=name)
    return name
