//! People who sign in.

use std::net::Ipv4Addr;

use argon2::{Argon2, Params, PasswordHasher, password_hash::phc::PasswordHash};
use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use mirrory::{
    accounts::{EmailAddress, NewAccount, Role, Username},
    passwords::{NewPassword, Turn, Whose},
    store::changes::Actor,
    types::ids::AccountId,
};
use serde_json::{Value, json};

use super::{Answer, Call, TestApp};

/// What every account of the tests has.
pub const PASSWORD: &str = "correct horse battery";

/// An account of a test.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: AccountId,
    pub email: String,
    pub username: String,
}

/// The tokens of somebody who is signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub access_token: String,
    pub refresh_token: String,
}

impl TestApp {
    /// Makes an account, `ada@shop.example` for the username `ada`.
    pub async fn person(&self, username: &str, role: Role) -> Person {
        let email = format!("{username}@shop.example");
        let account = NewAccount {
            email: EmailAddress::parse(&email).unwrap(),
            username: Some(Username::parse(username).unwrap()),
            name: None,
            role,
        };
        let password = NewPassword::parse(PASSWORD.to_owned()).unwrap();
        let turn = self.state.passwords.enter(Whose::Operator).unwrap();
        let hash = turn.hash(&password).await.unwrap();
        let mut tx = self.state.database.begin().await.unwrap();
        let accounts = &self.state.accounts;
        let created = accounts.create(&mut tx, Actor::Operator, &account, &hash);
        let created = created.await.unwrap();
        tx.commit().await.unwrap();
        Person {
            id: created.id,
            email,
            username: username.to_owned(),
        }
    }

    /// Takes every place of the hashing queue.
    pub fn fill_hashing_queue(&self) -> Vec<Turn> {
        let names = (0..)
            .map(|number| Whose::Named(format!("stranger {number}"), Ipv4Addr::LOCALHOST.into()));
        names
            .map_while(|whose| self.state.passwords.enter(whose).ok())
            .collect()
    }

    /// Keeps the password of an account as it would have been hashed long ago; the hash.
    pub async fn age_password(&self, person: &Person) -> String {
        let older = Argon2::from(Params::new(8 * 1024, 1, 1, None).unwrap());
        let older: PasswordHash = older
            .hash_password_with_salt(PASSWORD.as_bytes(), &[7; 16])
            .unwrap();
        let Person { email, .. } = person;
        let keep = format!("UPDATE accounts SET password_hash = '{older}' WHERE email = '{email}'");
        self.execute(&keep).await;
        older.to_string()
    }

    /// Disables an account, as the command line does.
    pub async fn disable(&self, person: &Person) {
        let mut tx = self.state.database.begin().await.unwrap();
        let accounts = &self.state.accounts;
        let disabled = accounts.disable(&mut tx, Actor::Operator, person.id);
        disabled.await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Gives an account another password, as the command line does.
    pub async fn reset_password(&self, person: &Person, password: &str) {
        let password = NewPassword::parse(password.to_owned()).unwrap();
        let turn = self.state.passwords.enter(Whose::Operator).unwrap();
        let hash = turn.hash(&password).await.unwrap();
        let mut tx = self.state.database.begin().await.unwrap();
        let accounts = &self.state.accounts;
        let reset = accounts.reset_password(&mut tx, Actor::Operator, person.id, &hash);
        reset.await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Enables it again.
    pub async fn enable(&self, person: &Person) {
        let mut tx = self.state.database.begin().await.unwrap();
        let accounts = &self.state.accounts;
        let enabled = accounts.enable(&mut tx, Actor::Operator, person.id);
        enabled.await.unwrap();
        tx.commit().await.unwrap();
    }

    /// An account that owns sites.
    pub async fn owner(&self, username: &str) -> Person {
        self.person(username, Role::Owner).await
    }

    /// Tries to sign in.
    pub async fn try_sign_in(&self, email: &str, password: &str) -> Answer {
        let body = json!({"email": email, "password": password});
        self.post("/api/v1/jwt").json(&body).send().await
    }

    /// Tries to sign in with a code.
    pub async fn try_code(&self, person: &Person, code: &str) -> Answer {
        let body = json!({"email": person.email, "password": PASSWORD, "otp_attempt": code});
        self.post("/api/v1/jwt").json(&body).send().await
    }

    /// A one-hour token.
    pub async fn one_hour(&self, person: &Person) -> String {
        let body = json!({"username": person.username, "password": PASSWORD});
        let answer = self.post("/api/v1/login").json(&body).send().await.ok();
        answer["data"]["token"].as_str().unwrap().to_owned()
    }

    /// Refreshes a session.
    pub async fn refresh(&self, refresh_token: &str) -> Answer {
        let body = json!({"refresh_token": refresh_token});
        self.post("/api/v1/jwt/refresh").json(&body).send().await
    }

    /// Revokes a token in the name of somebody who is signed in.
    pub async fn revoke_jwt(&self, by: &SignedIn, token: &str) -> Answer {
        let call = self.signed_in(by, "POST", "/api/v1/jwt/revoke");
        call.json(&json!({"token": token})).send().await
    }

    /// A request with a body, of somebody who is signed in.
    pub async fn ask(&self, by: &SignedIn, method: &str, path: &str, body: Value) -> Answer {
        self.signed_in(by, method, path).json(&body).send().await
    }

    /// Turns the second factor on; its secret in base32, and its recovery codes. The code of the
    /// current step is used up.
    pub async fn enrol(&self, by: &SignedIn) -> (String, Vec<String>) {
        let path = "/api/v1/account/two-factor";
        let begun = self.ask(by, "POST", path, json!({"password": PASSWORD}));
        let secret = begun.await.ok()["secret"].as_str().unwrap().to_owned();
        let body = json!({"otp_attempt": self.code(&secret)});
        let confirmed = self.ask(by, "POST", "/api/v1/account/two-factor/confirm", body);
        let codes = confirmed.await.ok()["recovery_codes"].clone();
        (secret, serde_json::from_value(codes).unwrap())
    }

    /// The code of now (RFC 6238), worked out apart from the service.
    pub fn code(&self, secret: &str) -> String {
        code_at(secret, u64::try_from(self.now().as_seconds()).unwrap())
    }

    /// A code that is of no step near now.
    pub fn wrong_code(&self, secret: &str) -> String {
        let now = u64::try_from(self.now().as_seconds()).unwrap();
        let near = [now - 30, now, now + 30].map(|at| code_at(secret, at));
        let mut codes = (0..4).map(|number| format!("{number:06}"));
        codes.find(|code| !near.contains(code)).unwrap()
    }

    /// The rows of the audit log, sorted: the actor's kind, the event, the outcome, the count.
    pub async fn audit(&self) -> Vec<String> {
        self.background.tally.flush().await.unwrap();
        let rows = "SELECT actor_kind || ' ' || event || ' ' || outcome || ' ' || count \
                    FROM audit_log";
        let mut rows = self.column(rows).await;
        rows.sort();
        rows
    }

    /// Signs somebody in.
    pub async fn sign_in(&self, person: &Person) -> SignedIn {
        SignedIn::from(&self.try_sign_in(&person.email, PASSWORD).await.ok())
    }

    /// A request of somebody who is signed in.
    pub fn signed_in(&self, signed_in: &SignedIn, method: &str, path: &str) -> Call<'_> {
        self.request(method, path).bearer(&signed_in.access_token)
    }

    /// The account of an access token.
    pub async fn account(&self, signed_in: &SignedIn) -> Answer {
        self.signed_in(signed_in, "GET", "/api/v1/account")
            .send()
            .await
    }
}

impl From<&Value> for SignedIn {
    fn from(body: &Value) -> Self {
        let text = |field: &str| body[field].as_str().unwrap().to_owned();
        Self {
            access_token: text("access_token"),
            refresh_token: text("refresh_token"),
        }
    }
}

fn code_at(secret: &str, seconds: u64) -> String {
    let step = seconds / 30;
    let secret = BASE32_NOPAD.decode(secret.as_bytes()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[19] & 0xf);
    let number = u32::from_be_bytes(tag[offset..offset + 4].try_into().unwrap());
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}
