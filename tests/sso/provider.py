"""A small OpenID Connect provider that really is one: discovery, a page to sign in, codes, PKCE, signed tokens, keys.

What `misbehave` names, it does wrong. It is asked over HTTP on loopback, by the portal and by browsers.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID, CLIENT_SECRET = "labportal", "the-secret-of-the-client"


class Provider:
    def __init__(self):
        self.people = {"grace": {"sub": "g-1", "preferred_username": "grace", "given_name": "Grace", "family_name": "Hopper"}}
        self.people["grace"] |= {"email": "grace@uni.test", "email_verified": True, "groups": ["everybody"]}
        self.misbehave = set()
        self.asked = []  # paths
        self.codes = {}
        self.sent = 0  # bytes of an answer without an end
        self._key, self._foreign = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
        self.hold = threading.Event()  # a slow provider answers when it is set
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"provider": self}))
        self._server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self._server.server_port}/realms/uni"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *what):
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def discovery(self):
        at = self.issuer
        found = {
            "issuer": at,
            "authorization_endpoint": f"{at}/authorize",
            "token_endpoint": f"{at}/token",
            "userinfo_endpoint": f"{at}/userinfo",
            "jwks_uri": f"{at}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }
        if "discovery of another issuer" in self.misbehave:
            found["issuer"] = "https://evil.test"
        if "plain endpoint" in self.misbehave:
            found["token_endpoint"] = "http://sso.uni.test/token"
        return found

    def keys(self):
        key = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [key | {"kid": "one", "use": "sig", "alg": "RS256"}]}

    def new_code(self, login, query):
        code = secrets.token_urlsafe(16)
        self.codes[code] = (login, query)
        return code

    def tokens(self, form):
        """The answer of the token endpoint, and its status."""
        login, asked = self.codes.pop(form.get("code"), (None, {}))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if (
            login is None
            or (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET)
            or (asked["code_challenge_method"], asked["code_challenge"]) != ("S256", challenge)
            or form.get("redirect_uri") != asked["redirect_uri"]
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "sub": self.people[login]["sub"], "nonce": asked.get("nonce")}
        wrong = {
            "wrong nonce": {"nonce": "of-another-sign-in"},
            "no nonce": {"nonce": None},
            "wrong audience": {"aud": "another-client"},
            "audience of several": {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"},
            "expired": {"exp": now - 3600, "iat": now - 7200},
            "other issuer": {"iss": "https://evil.test"},
            "no subject": {"sub": None},
        }
        for what in self.misbehave & set(wrong):
            claims |= wrong[what]
        claims = {name: value for name, value in claims.items() if value is not None}
        return 200, {"access_token": f"for-{login}", "token_type": "Bearer", "expires_in": 300, "id_token": self._signed(claims)}

    def _signed(self, claims):
        if "unsigned" in self.misbehave:
            return jwt.encode(claims, None, algorithm="none", headers={"kid": "one"})
        if "signed with the public key" in self.misbehave:
            return jwt.encode(claims, CLIENT_SECRET * 2, algorithm="HS256", headers={"kid": "one"})
        key = self._foreign if "wrong signature" in self.misbehave else self._key
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": "unknown" if "unknown key" in self.misbehave else "one"})

    def userinfo(self, token):
        claims = dict(self.people[token.removeprefix("for-")])
        if "userinfo of somebody else" in self.misbehave:
            claims["sub"] = "g-2"
        return claims


class Handler(BaseHTTPRequestHandler):
    provider: Provider

    def log_message(self, *what):
        pass

    def answer(self, status, body, kind="application/json", **headers):
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        provider, parts = self.provider, urlsplit(self.path)
        provider.asked.append(parts.path)
        if "slow" in provider.misbehave:
            provider.hold.wait()
            return
        page = parts.path.removeprefix("/realms/uni")
        if "endless" in provider.misbehave:
            self.send_response(200)
            self.end_headers()
            try:
                while provider.sent < 50_000_000:
                    provider.sent += self.wfile.write(b" " * 100_000)
            except OSError:
                pass  # nobody reads on
        elif "broken" in provider.misbehave:
            self.answer(200, "<h1>Maintenance</h1>", "text/html")
        elif page == "/.well-known/openid-configuration":
            self.answer(200, provider.discovery())
        elif page == "/keys":
            self.answer(200, provider.keys())
        elif page == "/userinfo":
            self.answer(200, provider.userinfo(self.headers["Authorization"].removeprefix("Bearer ")))
        elif page == "/authorize":
            buttons = "<button>Sign in there</button><button name=cancel value=1>Cancel</button>"
            self.answer(200, f"<form method=post><input name=login>{buttons}</form>", "text/html")
        else:
            self.answer(404, {})

    def do_POST(self):
        provider, parts = self.provider, urlsplit(self.path)
        provider.asked.append(parts.path)
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()}
        if parts.path.endswith("/token"):
            self.answer(*provider.tokens(form))
            return
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        told = {"error": "access_denied"} if "cancel" in form else {"code": provider.new_code(form["login"], query)}
        self.answer(302, "", Location=f"{query['redirect_uri']}?{urlencode(told | {'state': query['state']})}")
