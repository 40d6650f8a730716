//! People who sign in.

use mirrory::{
    accounts::{EmailAddress, NewAccount, Role, Username},
    passwords::NewPassword,
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
        let turn = self.state.passwords.enter().unwrap();
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

    /// An account that owns sites.
    pub async fn owner(&self, username: &str) -> Person {
        self.person(username, Role::Owner).await
    }

    /// Tries to sign in.
    pub async fn try_sign_in(&self, email: &str, password: &str) -> Answer {
        let body = json!({"email": email, "password": password});
        self.post("/api/v1/jwt").json(&body).send().await
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
