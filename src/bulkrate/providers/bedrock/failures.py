"""botocore's exceptions in our words. The question behind every branch: may the call have had its effect?"""

from __future__ import annotations

from typing import Any

from bulkrate.core.json_value import words
from bulkrate.errors import (
    AuthError,
    BulkrateError,
    ConfigError,
    NotFoundError,
    OutcomeUnknown,
    RequestRefused,
    Unreachable,
)
from bulkrate.providers.failures import ANSWER, WITH_EFFECT, Said, refusal

CREATE = "create"
# Too many, by quota or by rate: nothing was done, and later it may be. Bedrock's quota comes with status 400.
_LATER = frozenset(
    {
        *("ThrottlingException", "Throttling", "TooManyRequestsException", "ServiceQuotaExceededException"),
        *("ModelNotReadyException", "RequestLimitExceeded", "SlowDown"),
    }
)
_BAD_KEY = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException"),
        *("InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSignatureException", "InvalidToken"),
        *("RequestTimeTooSkewed", "SignatureDoesNotMatch", "UnrecognizedClientException"),
    }
)
_NO_KEY = (
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "NoAuthTokenError"),
    *("TokenRetrievalError", "SSOError", "SSOTokenLoadError", "UnauthorizedSSOTokenError"),
    *("ProfileNotFound", "ConfigNotFound", "ConfigParseError"),
)
# A connection that was never made carried nothing.
_NEVER_MADE = ("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError")


def failure(error: Exception, call: str) -> BulkrateError:
    """The error for a call that raised `error`; `create` and `upload` keep their doubt."""
    if isinstance(error, BulkrateError):
        return error
    response = getattr(error, "response", None)
    if isinstance(response, dict) and isinstance(response.get("Error"), dict):
        return _answered(response, call)
    names = {kind.__name__ for kind in type(error).__mro__}
    reason = f"{call}: {type(error).__name__}"
    if names & set(_NO_KEY):
        hint = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role: as for any AWS tool"
        return ConfigError(f"no credentials for AWS ({type(error).__name__})", code="no_key", hint=hint)
    if "ParamValidationError" in names:
        return RequestRefused(f"{call}: {' '.join(str(error).split())[:500]}", code="invalid_parameter")
    hint = "check the network, the proxy, AWS_REGION and AWS_ENDPOINT_URL"
    if names & set(_NEVER_MADE):
        return Unreachable(f"{reason}: could not connect", hint=hint)
    if call in WITH_EFFECT or call == ANSWER:
        return OutcomeUnknown(reason, hint=hint)
    return Unreachable(reason, hint=hint)


def _answered(response: dict[str, Any], call: str) -> BulkrateError:
    """The error for an answer that says no."""
    code = words(str(response["Error"].get("Code") or "")) or ""
    message = words(str(response["Error"].get("Message") or "")) or "no reason given"
    about = response.get("ResponseMetadata") or {}
    status, headers = int(about.get("HTTPStatusCode") or 0), about.get("HTTPHeaders") or {}
    if code == "NoSuchBucket":
        return ConfigError(f"{call}: there is no such bucket: {message}", hint="BULKRATE_BEDROCK_S3 names it")
    if call == CREATE and code == "ConflictException":
        # A job of this name is there: most likely the one that this call, or the one before it, has made.
        return OutcomeUnknown(f"{call}: {message}", code=code)
    if call == CREATE and code == "ResourceNotFoundException":
        return RequestRefused(f"{call}: {message}", code=code)
    if call == CREATE and code == "ValidationException" and _is_about_the_input(message):
        return NotFoundError(f"{call}: {message}", code=code)
    if code in _BAD_KEY:
        return AuthError(f"{call}: {code}: {message}"[:500], code=code, hint=_RIGHTS)
    if code in _LATER:
        status = 429
    elif code == "ModelErrorException" or status < 400:
        # A failure of the model's own; or an answer of 2xx that says no, as S3 gives when it gets late.
        status = 503
    return refusal(call, status, Said(code or str(status), message), headers)


_RIGHTS = "check the credentials, and what they may do: docs/how-to/use-bedrock.md lists the rights"


def _is_about_the_input(message: str) -> bool:
    said = message.lower()
    return "s3" in said and any(word in said for word in ("not exist", "not found", "does not contain"))
