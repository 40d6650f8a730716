//! Every refusal of a request, none of which may repeat what it refuses.

use hyper::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{IDEMPOTENCY_KEY, kept::Secrets};
use crate::{
    client::{Answer, Client},
    server::Server,
};

const JSON: (&str, &str) = ("content-type", "application/json");
const GENERATE: &str = "/mirrory/generate-token";
const CANARY: &str = "canary-in-a-request";

/// Makes every refusal that needs no other state, and at last the one for too many of them.
pub async fn provoke(server: &Server, secret: &str, secrets: &mut Secrets) {
    secrets.never(CANARY);
    let mut client = server.client();
    refuse_bodies(&mut client, secret).await;
    refuse_heads(&mut client, secret).await;
    refuse_slowness(server).await;
    let wrong = json!({"wp_user_id": 1, "proxy_secret": CANARY}).to_string();
    for _ in 0..40 {
        let answer = post(&mut client, &[JSON], &wrong).await;
        if answer.status == 429 {
            return assert_refused(&answer, "too_many_attempts", &[CANARY]);
        }
        assert_refused(&answer, "invalid_proxy_secret", &[CANARY]);
    }
    panic!("failures are not limited");
}

async fn post(client: &mut Client, headers: &[(&str, &str)], body: &str) -> Answer {
    client
        .send(Method::POST, GENERATE, headers, body)
        .await
        .unwrap()
}

async fn refuse_bodies(client: &mut Client, secret: &str) {
    let twice = json!({"proxy_secret": CANARY}).to_string();
    let twice = twice.replace('}', ",\"proxy_secret\":\"x\"}");
    let nearly = format!("{secret}x");
    for (body, error) in [
        (
            format!("{{\"proxy_secret\": \"{secret}\", \"x\": \"{CANARY}"),
            "malformed_json",
        ),
        (twice, "malformed_json"),
        (
            json!({"wp_user_id": CANARY, "proxy_secret": [CANARY]}).to_string(),
            "invalid_request",
        ),
        (
            json!({"wp_user_id": 1, "proxy_secret": CANARY}).to_string(),
            "invalid_proxy_secret",
        ),
        (
            json!({"wp_user_id": 1, "proxy_secret": nearly}).to_string(),
            "invalid_proxy_secret",
        ),
        (
            json!({"proxy_secret": CANARY.repeat(1000)}).to_string(),
            "body_too_large",
        ),
    ] {
        let answer = post(client, &[JSON], &body).await;
        assert_refused(&answer, error, &[CANARY, secret]);
    }
}

async fn refuse_heads(client: &mut Client, secret: &str) {
    let body = json!({"wp_user_id": 2, "proxy_secret": secret}).to_string();
    let long_key = CANARY.repeat(20);
    for (headers, error) in [
        (
            vec![JSON, ("idempotency-key", &long_key)],
            "invalid_request",
        ),
        (
            vec![JSON, ("idempotency-key", IDEMPOTENCY_KEY)],
            "idempotency_key_reused",
        ),
        (vec![("content-type", CANARY)], "unsupported_media_type"),
    ] {
        let answer = post(client, &headers, &body).await;
        assert_refused(&answer, error, &[CANARY, secret]);
    }
    let authorization = format!("Bearer {CANARY}");
    let headers = [
        JSON,
        ("authorization", &authorization),
        ("cookie", &authorization),
    ];
    let wrong = json!({"wp_user_id": 1, "proxy_secret": CANARY}).to_string();
    for (method, path, error) in [
        (Method::POST, GENERATE, "invalid_proxy_secret"),
        (Method::GET, CANARY, "not_found"),
        (Method::DELETE, GENERATE, "method_not_allowed"),
    ] {
        let path = format!("/{}?token={CANARY}", path.trim_start_matches('/'));
        let answer = client.send(method, &path, &headers, &wrong).await.unwrap();
        assert_refused(&answer, error, &[CANARY]);
    }
}

/// The time-out of the body, which is set to a second.
async fn refuse_slowness(server: &Server) {
    let begun = format!(
        "POST {GENERATE} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: 999\r\n\r\n{{\"x\": \"{CANARY}"
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(begun.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.contains("request_timeout") && !answer.contains(CANARY),
        "{answer}"
    );
}

/// Calls on the plan until it is used up.
pub async fn exhaust(client: &mut Client, secret: &str, secrets: &mut Secrets) {
    for _ in 0..30 {
        let answer = client.generate(secret, 1).await;
        if answer.status == 429 {
            return assert_refused(&answer, "quota_exceeded", &[secret]);
        }
        secrets.token(&answer.ok());
    }
    panic!("the plan is not used up");
}

pub fn assert_refused(answer: &Answer, error: &str, secrets: &[&str]) {
    assert_eq!(answer.field("error"), error, "{answer:?}");
    for secret in secrets {
        assert!(!format!("{answer:?}").contains(secret), "{answer:?}");
    }
}
