"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}` (API reference, 2026-11)."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A call, or a row, that is turned away."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.kind = status, message, code, param, kind

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return error_body(self.message, kind=self.kind, param=self.param, code=self.code)


def error_body(message: str, *, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    """An error body."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def missing(param: str) -> ApiError:
    """A required parameter is not there."""
    return ApiError(
        400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param
    )


def invalid(param: str, expected: str, *, code: str = "invalid_value") -> ApiError:
    """A parameter has a value that cannot be. The message never quotes it: it may be part of a prompt."""
    return ApiError(400, f"Invalid '{param}': {expected}.", code=code, param=param)


def unsupported(param: str, reason: str) -> ApiError:
    """A parameter of OpenAI's API that this server does not carry out: said, never ignored."""
    return ApiError(
        400, f"Unsupported parameter: '{param}': {reason}.", code="unsupported_parameter", param=param
    )
