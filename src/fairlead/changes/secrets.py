"""Secret values on their way through a change: encrypted at rest, digested in state, never shown.

A NoEcho value and what a schema marks write-only reach AWS and nothing else. Wherever they would be
stored, a keyed digest stands in their place, so that a change of the value is still seen.
"""

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr

from fairlead.changes.diff.secrets import hidden
from fairlead.changes.intrinsics import Secret
from fairlead.changes.model import Json, Properties, Recorded
from fairlead.changes.registry import Registry
from fairlead.changes.state import is_sealed, seal, seal_paths
from fairlead.kernel.errors import FairleadError

NOTHING: Final[Mapping[str, Recorded]] = MappingProxyType({})


class ParametersUnreadable(FairleadError):
    """The parameter values of this plan cannot be decrypted: the server's key has changed. Plan again."""

    code, status, retryable = "changes.parameters_unreadable", 409, False


def revealed(value: Json) -> Json:
    """`value` as AWS must get it: secrets as plain text. Only for sending."""
    if isinstance(value, Secret):
        return "".join(value)
    if isinstance(value, dict):
        return {key: revealed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [revealed(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Vault:
    """The two uses of the server's key. Without it pending plans are unusable and digests look changed."""

    key: bytes

    def encrypt(self, parameters: dict[str, Any]) -> str:
        """Parameter values for a row of the database."""
        return self._fernet().encrypt(json.dumps(parameters, default=str).encode()).decode()

    def decrypt(self, text: str) -> dict[str, Any]:
        """The values again. Raises ParametersUnreadable."""
        try:
            return dict(json.loads(self._fernet().decrypt(text.encode())))
        except InvalidToken:
            raise ParametersUnreadable(remedy="Plan again.") from None

    def sealer(
        self, registry: Registry, recorded: Mapping[str, Recorded] = NOTHING
    ) -> Callable[[str, str, Properties], Properties]:
        """A function `(logical id, type, properties)` that replaces every secret by its digest.

        The same value at the same place gives the same digest. What is sealed in `recorded` counts as
        secret too: the record may be of a Fairlead, or of schemas, that took more for secrets.
        """
        key = self._sealing_key()

        def seal_all(logical_id: str, type_name: str, properties: Properties) -> Properties:
            digested: Properties = self._seal_secrets(properties, logical_id)
            sealed = seal_paths(digested, hidden(registry.get(type_name).write_only), key, logical_id)
            known = recorded.get(logical_id)
            if known is None or known.type != type_name:
                return sealed
            return self.seal_like(logical_id, sealed, known.properties)

        return seal_all

    def seal_like(self, logical_id: str, observed: Properties, sealed: Properties) -> Properties:
        """`observed` with a digest wherever `sealed` (the same resource's properties) has one."""
        return dict(self._like(observed, sealed, logical_id))

    def _seal_secrets(self, value: Json, context: str) -> Json:
        if isinstance(value, Secret):
            return seal(str(value), self._sealing_key(), context)
        if isinstance(value, dict):
            return {key: self._seal_secrets(item, f"{context}/{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self._seal_secrets(item, f"{context}/{index}") for index, item in enumerate(value)]
        return value

    def _like(self, value: Json, sealed: Json, context: str) -> Json:
        if is_sealed(sealed):
            return value if value is None else seal(value, self._sealing_key(), context)
        if isinstance(value, dict) and isinstance(sealed, dict):
            return {
                key: self._like(item, sealed[key], f"{context}/{key}") if key in sealed else item
                for key, item in value.items()
            }
        if isinstance(value, list) and isinstance(sealed, list) and len(value) == len(sealed):
            pairs = zip(value, sealed, strict=True)
            return [self._like(item, like, f"{context}/{index}") for index, (item, like) in enumerate(pairs)]
        return value

    def _fernet(self) -> Fernet:
        return Fernet(urlsafe_b64encode(self._derived("parameters")))

    def _sealing_key(self) -> SecretStr:
        return SecretStr(self._derived("state").hex())

    def _derived(self, use: str) -> bytes:
        return hmac.new(self.key, f"fairlead:{use}".encode(), hashlib.sha256).digest()
