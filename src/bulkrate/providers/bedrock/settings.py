"""What a user sets for Bedrock beside the AWS variables: role, place in S3, timeout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bulkrate.errors import ConfigError

ROLE = "BULKRATE_BEDROCK_ROLE_ARN"
S3 = "BULKRATE_BEDROCK_S3"
TIMEOUT = "BULKRATE_BEDROCK_TIMEOUT_HOURS"
KMS_KEY = "BULKRATE_BEDROCK_KMS_KEY"

HOURS = range(24, 169)
# As the service has them (botocore 1.44.5, `S3Uri` and `RoleArn`); a name ends in neither dot nor dash.
_S3_URI = re.compile(
    r"s3://([a-z0-9][-.a-z0-9]{1,61}[a-z0-9])((?:/[-!_*'().a-z0-9A-Z]+)*)/?",
)
_ROLE_ARN = re.compile(r"arn:aws(?:-[^:]+)?:iam::[0-9]{12}:role/.+")
_FILE_URI = re.compile(r"s3://([^/]+)/(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, and a prefix in it that is empty or ends in `/`."""

    bucket: str
    prefix: str

    def uri(self, name: str) -> str:
        """The address of a file or folder here."""
        return f"s3://{self.bucket}/{self.prefix}{name}"


def place_of(env: Mapping[str, str]) -> Place | None:
    """Where files lie; None when it is not said. Raises `ConfigError` for what is no such place."""
    text = env.get(S3, "").strip()
    if not text:
        return None
    found = _S3_URI.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"{S3} is {text!r}, which is no place in S3", hint="s3://bucket/prefix, for instance"
        )
    inner = found[2].strip("/")
    return Place(found[1], f"{inner}/" if inner else "")


def role_of(env: Mapping[str, str]) -> str | None:
    """The role that Bedrock reads and writes S3 as. Raises `ConfigError` for what is none."""
    text = env.get(ROLE, "").strip()
    if text and not _ROLE_ARN.fullmatch(text):
        raise ConfigError(
            f"{ROLE} is {text!r}, which is no role", hint="arn:aws:iam::123456789012:role/NAME, for instance"
        )
    return text or None


def timeout_hours(env: Mapping[str, str]) -> int:
    """After how many hours a job ends by itself. Raises `ConfigError` outside 24 to 168."""
    text = env.get(TIMEOUT, "").strip()
    if not text:
        return HOURS[0]
    if not text.isdecimal() or int(text) not in HOURS:
        raise ConfigError(
            f"{TIMEOUT} is {text!r}, not a number of hours from {HOURS[0]} to {HOURS[-1]}",
            hint="a job waits in the queue for part of it",
        )
    return int(text)


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of a file's address. Raises `ConfigError` for what is none."""
    found = _FILE_URI.fullmatch(uri)
    if found is None:
        raise ConfigError(f"{uri!r} is no file in S3")
    return found[1], found[2]
