"""What is asked of an OpenID Connect provider: its discovery document, its keys, and whether a token is good."""

import json
from typing import Any

import jwt
import requests
from allauth.socialaccount.adapter import get_adapter
from django.core.cache import cache

from accounts.http import leads_nowhere
from accounts.sso.errors import unreachable, untrustworthy

# Never HS256, whose key is the client's secret, and never none.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_KEPT = 600  # seconds that a document counts
_CLOCKS_DIFFER = 30  # seconds
_LONGEST, _AT_ONCE = 1_000_000, 65_536  # bytes of an answer


def configuration(provider: Any) -> dict[str, Any]:
    """The discovery document, of which no endpoint is without TLS, and which is of the issuer that is configured.

    Raises SignInRefused.
    """
    key = f"sso:{provider.sub_id}:{provider.server_url}"
    found: dict[str, Any] | None = cache.get(key)
    if found is None:
        found = fetch(provider, provider.server_url)
        if str(found.get("issuer", "")).rstrip("/") != provider.app.settings["server_url"]:
            raise untrustworthy(provider, "the discovery document is of another issuer")
        for name in (*_ENDPOINTS, "userinfo_endpoint"):
            url = found.get(name)
            if url is None and name not in _ENDPOINTS:
                continue
            if not isinstance(url, str) or not (url.startswith("https://") or (url.startswith("http://") and leads_nowhere(url))):
                raise untrustworthy(provider, f"{name} of the discovery document is no https address")
        cache.set(key, found, _KEPT)
    return found


def fetch(provider: Any, url: str, **options: Any) -> dict[str, Any]:
    """A JSON object of the provider. Raises SignInRefused."""
    try:
        with get_adapter().get_requests_session() as session, session.get(url, stream=True, **options) as answer:
            answer.raise_for_status()
            body = b""
            for piece in answer.iter_content(_AT_ONCE):  # unpacked, where it comes packed
                body += piece
                if len(body) > _LONGEST:
                    raise untrustworthy(provider, "an answer is too long")
            found = json.loads(body)
    except requests.RequestException as error:
        raise unreachable(provider, type(error).__name__) from error
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise untrustworthy(provider, "an answer is no JSON object")
    return found


def verified(provider: Any, id_token: str, *, nonce: str) -> dict[str, Any]:
    """The claims of a token that this provider signed, for us, for this sign-in, and that has not ended.

    Raises SignInRefused.
    """
    document = configuration(provider)
    try:
        header = jwt.get_unverified_header(id_token)
        if header.get("alg") not in _ALGORITHMS:
            raise untrustworthy(provider, "the token is signed in a way that does not count")
        claims: dict[str, Any] = jwt.decode(
            id_token,
            _key(provider, document["jwks_uri"], header),
            algorithms=_ALGORITHMS,
            audience=provider.app.client_id,
            issuer=document["issuer"],
            leeway=_CLOCKS_DIFFER,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
    except jwt.PyJWTError as error:
        raise untrustworthy(provider, f"the token is refused: {type(error).__name__}") from error
    if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != provider.app.client_id:
        raise untrustworthy(provider, "the token was given to another client")
    if not nonce or claims.get("nonce") != nonce:
        raise untrustworthy(provider, "the token is not of this sign-in")
    return claims


def _key(provider: Any, url: str, header: dict[str, Any]) -> Any:
    """The key that the token names, or the only one. Providers change their keys: what is not known is asked for again,
    at most once in ten seconds, whatever tokens come."""
    kept, asked = f"sso:{provider.sub_id}:{url}", f"sso:{provider.sub_id}:{url}:asked"
    keys: list[dict[str, Any]] = cache.get(kept) or []
    if _named(keys, header) is None and (not keys or cache.add(asked, True, 10)):
        told = fetch(provider, url).get("keys")
        keys = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
        cache.set(kept, keys, _KEPT)
    if (found := _named(keys, header)) is None:
        raise untrustworthy(provider, "the token names a key that the provider does not have")
    return jwt.PyJWK(found, algorithm=header["alg"])


def _named(keys: list[dict[str, Any]], header: dict[str, Any]) -> dict[str, Any] | None:
    signing = [key for key in keys if key.get("use", "sig") == "sig"]
    if "kid" not in header:
        return signing[0] if len(signing) == 1 else None
    return next((key for key in signing if key.get("kid") == header["kid"]), None)
