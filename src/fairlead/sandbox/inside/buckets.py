"""Bucket properties that MiniStack's CloudFormation leaves out, put through its own S3 API."""

from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

from ministack.services import s3

Model = dict[str, Any]
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def _element(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        value = str(value).lower()
    return f"<{name}>{escape(str(value))}</{name}>"


def _versioning(value: Model) -> str:
    body = _element("Status", value["Status"])
    return f"<VersioningConfiguration {_NAMESPACE}>{body}</VersioningConfiguration>"


def _encryption(value: Model) -> str:
    rules = ""
    for rule in value["ServerSideEncryptionConfiguration"]:
        default = rule.get("ServerSideEncryptionByDefault") or {}
        inner = _element("SSEAlgorithm", default.get("SSEAlgorithm"))
        inner += _element("KMSMasterKeyID", default.get("KMSMasterKeyID"))
        rules += f"<Rule><ApplyServerSideEncryptionByDefault>{inner}</ApplyServerSideEncryptionByDefault>"
        rules += _element("BucketKeyEnabled", rule.get("BucketKeyEnabled")) + "</Rule>"
    return f"<ServerSideEncryptionConfiguration {_NAMESPACE}>{rules}</ServerSideEncryptionConfiguration>"


def _tags(value: list[Model]) -> str:
    tags = "".join(
        f"<Tag>{_element('Key', tag['Key'])}{_element('Value', tag['Value'])}</Tag>" for tag in value
    )
    return f"<Tagging {_NAMESPACE}><TagSet>{tags}</TagSet></Tagging>"


def _ownership(value: Model) -> str:
    rules = "".join(
        f"<Rule>{_element('ObjectOwnership', rule['ObjectOwnership'])}</Rule>" for rule in value["Rules"]
    )
    return f"<OwnershipControls {_NAMESPACE}>{rules}</OwnershipControls>"


def _logging(value: Model) -> str:
    inner = _element("TargetBucket", value.get("DestinationBucketName"))
    inner += _element("TargetPrefix", value.get("LogFilePrefix", ""))
    return f"<BucketLoggingStatus {_NAMESPACE}><LoggingEnabled>{inner}</LoggingEnabled></BucketLoggingStatus>"


def _transition(name: str, days: str, item: Model) -> str:
    when = _element(days, item.get("TransitionInDays")) + _element("Date", item.get("TransitionDate"))
    return f"<{name}>{when}{_element('StorageClass', item['StorageClass'])}</{name}>"


def _lifecycle_filter(rule: Model) -> str:
    prefix, tags = rule.get("Prefix"), rule.get("TagFilters") or []
    body = "".join(
        f"<Tag>{_element('Key', tag['Key'])}{_element('Value', tag['Value'])}</Tag>" for tag in tags
    )
    if len(tags) + (prefix is not None) > 1:
        return f"<Filter><And>{_element('Prefix', prefix)}{body}</And></Filter>"
    return f"<Filter>{body or _element('Prefix', prefix or '')}</Filter>"


def _lifecycle(value: Model) -> str:
    rules = ""
    for rule in value["Rules"]:
        expiry = _element("Days", rule.get("ExpirationInDays")) + _element("Date", rule.get("ExpirationDate"))
        older = rule.get("NoncurrentVersionExpiration") or {}
        abort = rule.get("AbortIncompleteMultipartUpload") or {}
        body = _element("ID", rule.get("Id")) + _lifecycle_filter(rule) + _element("Status", rule["Status"])
        body += "".join(_transition("Transition", "Days", item) for item in rule.get("Transitions") or [])
        body += f"<Expiration>{expiry}</Expiration>" if expiry else ""
        body += "".join(
            _transition("NoncurrentVersionTransition", "NoncurrentDays", item)
            for item in rule.get("NoncurrentVersionTransitions") or []
        )
        if older:
            inner = _element("NoncurrentDays", older.get("NoncurrentDays"))
            inner += _element("NewerNoncurrentVersions", older.get("NewerNoncurrentVersions"))
            body += f"<NoncurrentVersionExpiration>{inner}</NoncurrentVersionExpiration>"
        if abort:
            inner = _element("DaysAfterInitiation", abort["DaysAfterInitiation"])
            body += f"<AbortIncompleteMultipartUpload>{inner}</AbortIncompleteMultipartUpload>"
        rules += f"<Rule>{body}</Rule>"
    return f"<LifecycleConfiguration {_NAMESPACE}>{rules}</LifecycleConfiguration>"


def _suspend(name: str) -> Any:
    if s3._bucket_versioning.get(name):  # versioning can be suspended, never taken away
        return s3._put_bucket_versioning(name, _versioning({"Status": "Suspended"}).encode())
    return 200, {}, b""


def _no_logging(name: str) -> Any:
    s3._bucket_logging_config.pop(name, None)
    return 200, {}, b""


_Parts = tuple[tuple[str, Callable[[Any], str], Callable[[str, bytes], Any], Callable[[str], Any]], ...]
_PARTS: _Parts = (
    ("VersioningConfiguration", _versioning, s3._put_bucket_versioning, _suspend),
    ("BucketEncryption", _encryption, s3._put_bucket_encryption, s3._delete_bucket_encryption),
    ("Tags", _tags, s3._put_bucket_tagging, s3._delete_bucket_tagging),
    (
        "OwnershipControls",
        _ownership,
        s3._put_bucket_ownership_controls,
        s3._delete_bucket_ownership_controls,
    ),
    ("LifecycleConfiguration", _lifecycle, s3._put_bucket_lifecycle, s3._delete_bucket_lifecycle),
    ("LoggingConfiguration", _logging, s3._put_bucket_logging, _no_logging),
)


def configure(name: str, before: Model, after: Model) -> list[Any]:
    """Answers of the S3 API to what it takes to turn the properties `before` into `after`."""
    answers = []
    for member, write, put, remove in _PARTS:
        if after.get(member) == before.get(member):
            continue
        answers.append(put(name, write(after[member]).encode()) if after.get(member) else remove(name))
    return answers


def delete(name: str) -> Any:
    """Answer of DeleteBucket, which refuses a bucket that holds objects."""
    return s3._delete_bucket(name)
