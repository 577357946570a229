"""A real identity provider, of another make than ours, in a process of its own: `python identity_provider.py`.

It prints the port it serves. What it gives is as it should be, until a test tells it to do the next thing wrong: it
then signs, with its own key or with another, what an honest provider would not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
import warnings
from typing import Any
from urllib.parse import parse_qs, urlsplit

warnings.simplefilter("ignore")

import flask  # noqa: E402
import oidc_provider_mock._app as provider  # noqa: E402
from joserfc import jwk, jws  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

app = provider.app(require_client_registration=True, require_nonce=True)
app.debug = False
challenges: dict[str, str] = {}
wrong: dict[str, Any] = {}
metadata: dict[str, Any] = {}
seen: list[dict[str, Any]] = []


def _own_key() -> jwk.RSAKey:
    storage = flask.g.oidc_provider_mock_storage
    return jwk.RSAKey.import_key(storage.jwk.as_dict(is_private=True))


@app.post("/test/wrong")
def set_wrong() -> Any:
    wrong.clear()
    wrong.update(flask.request.get_json())
    return {}


@app.post("/test/metadata")
def set_metadata() -> Any:
    metadata.clear()
    metadata.update(flask.request.get_json())
    return {}


@app.post("/test/rotate")
def rotate() -> Any:
    storage = flask.g.oidc_provider_mock_storage
    storage.jwk = provider.jose.RSAKey.generate_key(is_private=True)
    return {}


@app.get("/test/somebody-else")
def show_somebody_else() -> Any:
    return {"sub": "somebody else", "email": "else@example.org", "email_verified": True}


@app.get("/test/seen")
def show_seen() -> Any:
    return flask.jsonify(seen)


@app.before_request
def check_pkce() -> Any:
    """What the package leaves out: the code is only for whoever knows the verifier (RFC 7636)."""
    if flask.request.path != "/oauth2/token":
        return None
    form = flask.request.form
    seen.append({"form": sorted(form), "basic": flask.request.authorization is not None})
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    if challenges.get(form.get("code", "")) != base64.urlsafe_b64encode(digest).rstrip(b"=").decode():
        return {"error": "invalid_grant"}, 400
    return None


@app.after_request
def remember_challenge(response: Any) -> Any:
    request = flask.request
    if request.path == "/oauth2/authorize" and request.method == "POST":
        code = parse_qs(urlsplit(response.headers.get("Location", "")).query).get("code")
        if code and request.args.get("code_challenge_method") == "S256":
            challenges[code[0]] = request.args.get("code_challenge", "")
    if request.path == "/oauth2/token" and response.status_code == 200 and wrong:
        answer = response.get_json()
        answer["id_token"] = _forged(answer["id_token"])
        response.set_data(json.dumps(answer))
    if request.path == "/.well-known/openid-configuration" and metadata:
        response.set_data(json.dumps({**response.get_json(), **metadata}))
    return response


def _forged(token: str) -> str:
    """The ID token as the test wants it; once."""
    told = dict(wrong)
    wrong.clear()
    head, body, _ = token.split(".")
    claims = {**_parsed(body), **told.get("claims", {})}
    for name in told.get("drop", ()):
        claims.pop(name, None)
    if "ago" in told:
        claims["iat"] = int(time.time()) - told["ago"]
        claims["exp"] = claims["iat"] + 60
    header = {**_parsed(head), **told.get("header", {})}
    payload = json.dumps(claims)
    match told.get("sign", "own"):
        case "own":
            return jws.serialize_compact(header, payload, _own_key())
        case "stranger":
            return jws.serialize_compact(header, payload, jwk.RSAKey.generate_key())
        case "none":
            return f"{_text({**header, 'alg': 'none'})}.{_b64(payload.encode())}."
        case "public":
            # The classic confusion: the published key, taken for the secret of an HMAC.
            text = f"{_text({**header, 'alg': 'HS256'})}.{_b64(payload.encode())}"
            return f"{text}.{_b64(hmac.digest(_own_key().as_pem(private=False), text.encode(), 'sha256'))}"
        case other:
            raise ValueError(other)


def _parsed(part: str) -> dict[str, Any]:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _text(value: dict[str, Any]) -> str:
    return _b64(json.dumps(value).encode())


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, threaded=True)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
