// The management API by Node's own fetch.

import assert from "node:assert/strict";

const { BASE, EMAIL, LOGIN, PASSWORD } = process.env;

async function call(method, path, body, authorization) {
    const response = await fetch(`${BASE}/api/v1${path}`, {
        method,
        headers: {
            ...(body && { "Content-Type": "application/json" }),
            ...(authorization && { Authorization: authorization }),
        },
        body: body && JSON.stringify(body),
    });
    return { status: response.status, body: await response.json() };
}

const signedIn = await call("POST", "/jwt", { email: EMAIL, password: PASSWORD });
assert.equal(signedIn.status, 200);
const bearer = `Bearer ${signedIn.body.access_token}`;
const account = await call("GET", "/account", undefined, bearer);
assert.equal(account.body.email, EMAIL);

// Two tabs refresh at once, and end with the same refresh token.
const refresh = { refresh_token: signedIn.body.refresh_token };
const tabs = await Promise.all([call("POST", "/jwt/refresh", refresh), call("POST", "/jwt/refresh", refresh)]);
assert.deepEqual(tabs.map((tab) => tab.status), [200, 200]);
assert.equal(tabs[0].body.refresh_token, tabs[1].body.refresh_token);

// A script calls with an API token, under the scheme `token`.
const script = { name: "node", scopes: ["sites:read", "sites:write"], password: PASSWORD };
const created = await call("POST", "/api-tokens", script, bearer);
assert.equal(created.status, 201);
const token = `token ${created.body.token}`;
const site = await call("POST", "/sites", { name: "Node's shop" }, token);
assert.equal(site.status, 201);
const sites = await call("GET", "/sites", undefined, token);
assert.deepEqual(sites.body.map(({ id, name, plan }) => [id, name, plan]), [[site.body.id, "Node's shop", "free"]]);

const hour = await call("POST", "/login", { username: LOGIN, password: PASSWORD });
assert.deepEqual([hour.body.status, hour.body.message], [200, "Data retrieved successfully"]);
const plain = await call("POST", "/jwt/revoke", { token: "x" }, hour.body.data.token);
assert.deepEqual(plain, { status: 200, body: {} });

const wrong = await call("POST", "/login", { username: LOGIN, password: "a wrong password" });
assert.deepEqual(wrong, { status: 401, body: { status: 401, message: "The credentials are not valid" } });

// Revoking a refresh token takes the access tokens of its session with it.
const revoked = await call("POST", "/jwt/revoke", { token: tabs[0].body.refresh_token }, bearer);
assert.deepEqual(revoked, { status: 200, body: {} });
assert.equal((await call("GET", "/account", undefined, bearer)).body.error, "unauthorized");
console.log("done");
