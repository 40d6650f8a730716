//! Forged tokens of accounts: none passes for another kind, another session or another account.

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::harness::{Person, Store, TestApp};

on_both_stores! {
    a_token_that_we_would_have_signed_is_taken,
    no_kind_passes_for_another,
    what_differs_in_anything_is_refused,
    a_token_of_a_session_of_another_kind_is_refused,
    an_account_token_is_no_desktop_token,
}

/// A service, somebody who is signed in, and the stolen key.
struct Heist {
    app: TestApp,
    ada: Person,
    access: String,
    kid: String,
    key: hmac::Key,
}

impl Heist {
    async fn on(store: Store) -> Self {
        let app = TestApp::with(store, &[("limits.failures_per_minute", "0")]).await;
        let ada = app.owner("ada").await;
        let access = app.sign_in(&ada).await.access_token;
        let (kid, key) = app.stolen_key().await;
        Self {
            app,
            ada,
            access,
            kid,
            key,
        }
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let input = format!("{}.{}", encode(header), encode(claims));
        let signature = hmac::sign(&self.key, input.as_bytes());
        format!("{input}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }

    fn header(&self, media_type: &str) -> Value {
        json!({"alg": "HS256", "typ": media_type, "kid": self.kid})
    }

    /// What an endpoint that any credential reaches says to a token.
    async fn status(&self, token: &str) -> u16 {
        let call = self.app.post("/api/v1/jwt/revoke").bearer(token);
        call.json(&json!({"token": "x"})).send().await.status
    }
}

fn encode(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

fn part(token: &str, index: usize) -> Value {
    let text = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()).unwrap()
}

fn with(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    object[name] = value;
    object
}

async fn a_token_that_we_would_have_signed_is_taken(store: Store) {
    let heist = Heist::on(store).await;
    let claims = part(&heist.access, 1);
    let header = part(&heist.access, 0);
    assert_eq!(header, heist.header("at+jwt"));
    assert_eq!(claims["aud"], "mirrory-access");
    assert_eq!(claims["sub"], heist.ada.id.to_string());
    assert_eq!(heist.status(&heist.signed(&header, &claims)).await, 200);
}

async fn no_kind_passes_for_another(store: Store) {
    let heist = Heist::on(store).await;
    let claims = part(&heist.access, 1);
    for media_type in ["JWT", "hour+jwt", "at+JWT", "application/at+jwt", ""] {
        let token = heist.signed(&heist.header(media_type), &claims);
        assert_eq!(heist.status(&token).await, 401, "{media_type}");
    }
    for audience in ["mirrory-desktop", "mirrory-one-hour", "mirrory"] {
        let claims = with(&claims, "aud", json!(audience));
        let token = heist.signed(&heist.header("at+jwt"), &claims);
        assert_eq!(heist.status(&token).await, 401, "{audience}");
    }
}

async fn what_differs_in_anything_is_refused(store: Store) {
    let heist = Heist::on(store).await;
    let claims = part(&heist.access, 1);
    let now = claims["iat"].as_i64().unwrap();
    let unknown = json!("01890a5d-ac96-774b-bcce-b302099a8057");
    for (name, value) in [
        ("iss", json!("another")),
        ("sub", unknown.clone()),
        ("sub", json!("x")),
        ("sid", unknown),
        ("sid", Value::Null),
        ("exp", json!(now)),
        ("exp", json!(now - 1)),
        ("exp", json!("later")),
        ("aud", json!(["mirrory-access"])),
    ] {
        let token = heist.signed(&heist.header("at+jwt"), &with(&claims, name, value.clone()));
        assert_eq!(heist.status(&token).await, 401, "{name} {value}");
    }
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("alg", json!("none")),
        ("kid", json!("another")),
    ] {
        let header = with(&heist.header("at+jwt"), name, value);
        let token = heist.signed(&header, &claims);
        assert_eq!(heist.status(&token).await, 401, "{name}");
    }
}

async fn a_token_of_a_session_of_another_kind_is_refused(store: Store) {
    let heist = Heist::on(store).await;
    let one_hour = part(&heist.app.one_hour(&heist.ada).await, 1);
    let access = part(&heist.access, 1);
    for (media_type, audience, claims) in [
        ("at+jwt", "mirrory-access", &one_hour),
        ("hour+jwt", "mirrory-one-hour", &access),
    ] {
        let claims = with(claims, "aud", json!(audience));
        let token = heist.signed(&heist.header(media_type), &claims);
        assert_eq!(heist.status(&token).await, 401, "{media_type}");
    }
}

async fn an_account_token_is_no_desktop_token(store: Store) {
    let heist = Heist::on(store).await;
    let site = heist.app.site("free").await;
    let issued = heist.app.issue(&site).await;
    let mut claims = part(&issued.token, 1);
    for (name, value) in part(&heist.access, 1).as_object().unwrap() {
        if claims.get(name).is_none() {
            claims[name] = value.clone();
        }
    }
    for media_type in ["at+jwt", "hour+jwt"] {
        let token = heist.signed(&heist.header(media_type), &claims);
        let answer = heist.app.validate(&token, "m").await;
        assert_eq!(answer.reason(), "bad_signature", "{media_type}");
        assert_eq!(heist.status(&token).await, 401);
    }
    assert_eq!(heist.status(&issued.token).await, 401);
}
