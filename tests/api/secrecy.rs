//! What shows when the values of the accounts are printed for people who look for a fault.

use std::fmt::Debug;

use mirrory::{
    accounts::{EmailAddress, LoginName, NewAccount, Role, Username},
    passwords::{NewPassword, Password},
    sessions::SessionKind,
    sign_in::Credentials,
    store::changes::{Actor, Context},
    two_factor::Code,
    types::{ids::ApiTokenId, randomness::Randomness, secret::ApiTokenSecret},
};

use crate::harness::{PASSWORD, Store, TestApp};

fn assert_hidden(value: &impl Debug, secrets: &[&str]) {
    for shown in [format!("{value:?}"), format!("{value:#?}")] {
        for secret in secrets {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn what_somebody_signs_in_with_does_not_show() {
    let password = || PASSWORD.to_owned();
    let credentials = Credentials {
        name: LoginName::new("ada@shop.example"),
        password: Password::parse(password()).unwrap(),
        code: Some(Code::parse("123456").unwrap()),
    };
    let secrets = [PASSWORD, "ada", "123456"];
    assert_hidden(&credentials, &secrets);
    assert_hidden(&NewPassword::parse(password()).unwrap(), &secrets);
    let account = NewAccount {
        email: EmailAddress::parse("ada@shop.example").unwrap(),
        username: Some(Username::parse("bob").unwrap()),
        name: None,
        role: Role::Owner,
    };
    assert_hidden(&account, &secrets);
}

#[tokio::test]
async fn what_somebody_is_given_does_not_show() {
    let app = TestApp::start(Store::Sqlite).await;
    let ada = app.owner("ada").await;
    let proof = app.state.accounts.find_proof_by_id(ada.id).await.unwrap();
    assert_hidden(&proof.unwrap(), &["argon2", "$"]);
    let by = Context::from(Actor::Account(ada.id));
    let mut tx = app.state.database.begin().await.unwrap();
    let kind = SessionKind::Refreshed;
    let opened = app.state.sessions.open(&mut tx, &by, ada.id, kind).await;
    let opened = opened.unwrap();
    tx.commit().await.unwrap();
    let pair = app.state.sessions.pair(opened).await.unwrap();
    assert_hidden(&pair, &["eyJ", "mrt_"]);
    let hour = app.state.sessions.one_hour_token(opened).await.unwrap();
    assert_hidden(&hour, &["eyJ"]);
    let randomness = Randomness::seeded(7);
    let id = ApiTokenId::new(app.now(), &randomness);
    let secret = ApiTokenSecret::generate(id, &randomness);
    let shown = secret.reveal().to_owned();
    assert_hidden(&secret, &["mat_", &shown]);
}
