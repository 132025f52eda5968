"""Files in S3: in one piece or not at all, streamed both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, BinaryIO

from bulkrate.errors import NotFoundError, Unreachable
from bulkrate.providers.bedrock.aws import READ_TIMEOUT_S, Aws
from bulkrate.providers.bedrock.settings import split_uri

CHUNK_BYTES = 1 << 18
# Parts of an upload, a few at a time: what is held in memory is a fraction of a file.
PART_BYTES = 16 << 20
PARTS_AT_ONCE = 2
SMALL_FILE_BYTES = 1 << 20


class Files:
    """S3 by addresses (`s3://bucket/key`)."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    async def upload(self, uri: str, content: BinaryIO, *, timeout_s: float) -> None:
        """Store a file. One that is cut short is not there at all, and not listed."""
        from boto3.s3.transfer import TransferConfig

        bucket, key = split_uri(uri)
        await self._aws.call(
            "upload",
            self._aws.s3.upload_fileobj,
            content,
            bucket,
            key,
            ExtraArgs={"ContentType": "application/jsonl"},
            Config=TransferConfig(
                multipart_threshold=PART_BYTES,
                multipart_chunksize=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
                max_io_queue=PARTS_AT_ONCE,
            ),
            timeout_s=timeout_s,
        )

    async def download(self, uri: str) -> AsyncIterator[bytes]:
        """Stream a file. Raises `NotFoundError`, and `Unreachable` for content that was cut."""
        bucket, key = split_uri(uri)
        answer: dict[str, Any] = await self._aws.call(
            "download", self._aws.s3.get_object, Bucket=bucket, Key=key, timeout_s=READ_TIMEOUT_S
        )
        body, size_bytes = answer["Body"], 0
        try:
            while chunk := await self._aws.call("download", body.read, CHUNK_BYTES, timeout_s=READ_TIMEOUT_S):
                size_bytes += len(chunk)
                yield chunk
        finally:
            body.close()
        if size_bytes < (answer.get("ContentLength") or 0):
            raise Unreachable(f"download: {size_bytes} of {answer['ContentLength']} bytes arrived")

    async def read(self, uri: str) -> bytes | None:
        """A small file's content; None where there is none, or one that is not small."""
        content = b""
        try:
            async for chunk in self.download(uri):
                content += chunk
                if len(content) > SMALL_FILE_BYTES:
                    return None
        except NotFoundError:
            return None
        return content

    async def names(self, folder: str) -> list[str]:
        """Names of the files in a folder (an address that ends in `/`), not of those in folders within."""
        bucket, prefix = split_uri(folder)
        options: dict[str, Any] = {}
        found: list[str] = []
        while True:
            page = await self._aws.call(
                "list",
                self._aws.s3.list_objects_v2,
                Bucket=bucket,
                Prefix=prefix,
                Delimiter="/",
                **options,
                timeout_s=READ_TIMEOUT_S,
            )
            found += [item["Key"].removeprefix(prefix) for item in page.get("Contents", [])]
            if not page.get("IsTruncated"):
                return found
            options = {"ContinuationToken": page["NextContinuationToken"]}

    async def delete(self, uri: str) -> None:
        """Delete a file; one that is gone already is no error."""
        bucket, key = split_uri(uri)
        await self._aws.call(
            "delete", self._aws.s3.delete_object, Bucket=bucket, Key=key, timeout_s=READ_TIMEOUT_S
        )
