"""requests for the management API, pyotp for the second factor, PyJWT over the JWKS for a desktop token."""

import os
import time

import jwt
import pyotp
import requests

BASE, EMAIL, LOGIN, PASSWORD = (os.environ[name] for name in ("BASE", "EMAIL", "LOGIN", "PASSWORD"))
API = f"{BASE}/api/v1"


def sign_in(**more):
    body = {"email": EMAIL, "password": PASSWORD, **more}
    return requests.post(f"{API}/jwt", json=body, timeout=20)


def check(answer, status=200):
    assert answer.status_code == status, (answer.status_code, answer.text)
    return answer.json()


pair = check(sign_in())
bearer = {"Authorization": f"Bearer {pair['access_token']}"}
account = check(requests.get(f"{API}/account", headers=bearer, timeout=20))
assert account["email"] == EMAIL

# A refresh token is good once, and for 30 seconds gives the same next one.
first = check(requests.post(f"{API}/jwt/refresh", json={"refresh_token": pair["refresh_token"]}, timeout=20))
again = check(requests.post(f"{API}/jwt/refresh", json={"refresh_token": pair["refresh_token"]}, timeout=20))
assert first["refresh_token"] == again["refresh_token"] != pair["refresh_token"]

# An API token, under the scheme `token`.
body = {"name": "report", "scopes": ["sites:read"], "password": PASSWORD}
token = check(requests.post(f"{API}/api-tokens", json=body, headers=bearer, timeout=20), 201)["token"]
scripted = {"Authorization": f"token {token}"}
assert check(requests.get(f"{API}/sites", headers=scripted, timeout=20)) == []
made = requests.post(f"{API}/sites", json={"name": "Python's shop"}, headers=scripted, timeout=20)
assert (check(made, 403)["error"], made.json()["scope"]) == ("insufficient_scope", "sites:write")
made = check(requests.post(f"{API}/sites", json={"name": "Python's shop"}, headers=bearer, timeout=20), 201)
sites = check(requests.get(f"{API}/sites", headers=scripted, timeout=20))
assert [(site["id"], site["name"]) for site in sites] == [(made["id"], "Python's shop")]
assert check(requests.post(f"{API}/jwt/revoke", json={"token": "x"}, headers=scripted, timeout=20)) == {}
assert check(requests.get(f"{API}/account", headers=scripted, timeout=20), 403)["error"] == "forbidden"

# The second factor, by somebody else's implementation of it.
begun = check(requests.post(f"{API}/account/two-factor", json={"password": PASSWORD}, headers=bearer, timeout=20))
app = pyotp.parse_uri(begun["otpauth_url"])
assert (app.secret, app.name, app.issuer) == (begun["secret"], EMAIL, "Mirrory")
code = app.now()
confirmed = requests.post(f"{API}/account/two-factor/confirm", json={"otp_attempt": code}, headers=bearer, timeout=20)
codes = check(confirmed)["recovery_codes"]
assert check(sign_in(), 401)["error"] == "otp_required"
assert check(sign_in(otp_attempt=code), 401)["error"] == "invalid_otp"
# The next one is taken before its time: no need to wait for it.
check(sign_in(otp_attempt=app.at(time.time() + 30)))
check(sign_in(otp_attempt=codes[0]))
off = {"password": PASSWORD, "otp_attempt": codes[1]}
assert check(requests.delete(f"{API}/account/two-factor", json=off, headers=bearer, timeout=20)) == {}
check(sign_in())

# A token of an hour, with a scheme and without.
login = {"username": LOGIN, "password": PASSWORD}
hour = check(requests.post(f"{API}/login", json=login, timeout=20))["data"]["token"]
for authorization in (hour, f"Bearer {hour}"):
    headers = {"Authorization": authorization}
    assert check(requests.post(f"{API}/jwt/revoke", json={"token": "x"}, headers=headers, timeout=20)) == {}

# A desktop token is checked without the service; an account's token is no such token.
body = {"wp_user_id": 12345, "proxy_secret": os.environ["PROXY_SECRET"]}
issued = check(requests.post(f"{BASE}/mirrory/generate-token", json=body, timeout=20))
jwks = jwt.PyJWKClient(f"{BASE}/.well-known/jwks.json")


def claims(text):
    key = jwks.get_signing_key_from_jwt(text).key
    return jwt.decode(text, key, algorithms=["ES256"], audience="mirrory-desktop", issuer="mirrory")


assert claims(issued["token"])["sub"] == "12345"
try:
    claims(pair["access_token"])
except jwt.InvalidAudienceError:
    print("done")
else:
    raise AssertionError("an access token passed for a desktop token")
