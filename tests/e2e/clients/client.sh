#!/usr/bin/env bash
# What the documentation prints for curl, but for host and credentials.
set -euo pipefail

field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

signed_in=$(curl -sS --fail-with-body "$BASE/api/v1/jwt" -H 'Content-Type: application/json' \
    -d "{\"email\": \"$EMAIL\", \"password\": \"$PASSWORD\"}")
access=$(field access_token <<<"$signed_in")
refresh=$(field refresh_token <<<"$signed_in")
curl -sS --fail-with-body "$BASE/api/v1/account" -H "Authorization: Bearer $access" | grep -F "\"email\":\"$EMAIL\""

refreshed=$(curl -sS --fail-with-body -X POST "$BASE/api/v1/jwt/refresh" -H 'Content-Type: application/json' \
    -d "{\"refresh_token\": \"$refresh\"}")
access=$(field access_token <<<"$refreshed")

created=$(curl -sS --fail-with-body "$BASE/api/v1/api-tokens" -H "Authorization: Bearer $access" \
    -H 'Content-Type: application/json' \
    -d "{\"name\": \"curl\", \"scopes\": [\"sites:read\"], \"password\": \"$PASSWORD\"}")
token=$(field token <<<"$created")
test "$(curl -sS --fail-with-body "$BASE/api/v1/jwt/revoke" -H "Authorization: token $token" \
    -H 'Content-Type: application/json' -d '{"token": "unknown"}')" = '{}'
curl -sS --fail-with-body "$BASE/api/v1/sites" -H "Authorization: Bearer $access" \
    -H 'Content-Type: application/json' -d '{"name": "A shop of curl"}' | grep -F '"proxy_secret":"mps_'
curl -sS --fail-with-body "$BASE/api/v1/sites" -H "Authorization: token $token" | grep -F '"name":"A shop of curl"'

# With --data alone, as old examples have it, curl labels the body as a form, which is no JSON.
status=$(curl -sS -o /dev/null -w '%{http_code}' "$BASE/api/v1/login" -d '{}')
test "$status" = 415

logged_in=$(curl -sS --fail-with-body --location --request POST "$BASE/api/v1/login" \
    --header 'Content-Type: application/json' \
    --data-raw "{\"username\": \"$LOGIN\", \"password\": \"$PASSWORD\"}")
hour=$(field token <<<"$logged_in")
for header in "Authorization: $hour" "Authorization: Bearer $hour"; do
    test "$(curl -sS --fail-with-body "$BASE/api/v1/jwt/revoke" -H "$header" \
        -H 'Content-Type: application/json' -d '{"token": "unknown"}')" = '{}'
done
curl -sS --fail-with-body "$BASE/api/v1/jwt/revoke" -H "Authorization: Bearer $access" \
    -H 'Content-Type: application/json' -d "{\"token\": \"$access\"}"
status=$(curl -sS -o /dev/null -w '%{http_code}' "$BASE/api/v1/account" -H "Authorization: Bearer $access")
test "$status" = 401
