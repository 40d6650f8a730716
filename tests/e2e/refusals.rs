//! What the log says of requests that are refused: why, and for whom fail2ban is to keep out, who asked.

use std::{env, process::Command};

use serde_json::{Value, json};

use crate::{harness::Place, server::Server};

const FILTER: &str = "config/deploy/fail2ban/mirrory.conf";

/// Prints what the filter makes of each line of stdin: the address that it finds, or nothing.
const FAIL2BAN: &str = r#"
import configparser, re, sys
filters = configparser.RawConfigParser()
filters.read(sys.argv[1])
failregex = filters["Definition"]["failregex"].replace("<HOST>", r"(?P<host>[0-9a-fA-F:.]+)")
for line in sys.stdin:
    found = re.search(failregex, line)
    print(found["host"] if found else "")
"#;

/// A wrong secret from one client, one after many from another, and a site that may not.
async fn refused(server: &Server, place: &Place) {
    let mut client = server.client();
    let mut send = async |client_address: &str, request_id: &str, secret: &str| {
        let body = json!({"wp_user_id": 1, "proxy_secret": secret});
        let headers = [
            ("x-forwarded-for", client_address),
            ("x-request-id", request_id),
        ];
        let answer = client.post("/mirrory/generate-token", &headers, &body);
        answer.await.unwrap().status
    };
    // What a stranger calls its request is no address, whatever it looks like.
    let misleading = "\",\"client.address\":\"192.0.2.66\",client.address=192.0.2.66";
    assert_eq!(send("6.6.6.6, 203.0.113.7", misleading, "wrong").await, 401);
    assert_eq!(send("2001:db8::7", "second", "wrong").await, 401);
    assert_eq!(send("2001:db8::8", "third", "wrong").await, 429);
    let site = place.create_site("free");
    place.ask(["site", "suspend", &site.id]);
    assert_eq!(send("203.0.113.7", "fourth", &site.secret).await, 403);
    let site = place.create_site("free");
    assert_eq!(send("203.0.113.7", "fifth", &site.secret).await, 200);
}

/// The lines of the log about the calls of [`refused`], in their order.
async fn lines(format: &str) -> Vec<String> {
    let place = Place::sqlite()
        .with("MIRRORY__SERVER__TRUSTED_PROXIES", "127.0.0.0/8")
        .with("MIRRORY__LIMITS__FAILURES_PER_MINUTE", "1")
        .with("MIRRORY__LOG__FORMAT", format);
    let mut server = place.start().await;
    refused(&server, &place).await;
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0));
    let stderr = server.stderr();
    let lines = stderr
        .lines()
        .filter(|line| line.contains("/mirrory/generate-token"));
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_its_code_and_one_of_somebody_unknown_the_client() {
    let lines = lines("json").await;
    let told = lines.iter().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let fields = ["status", "error.code", "client.address"].map(|field| line[field].clone());
        Value::from(fields.to_vec())
    });
    let expected = [
        json!([401, "invalid_proxy_secret", "203.0.113.7"]),
        json!([401, "invalid_proxy_secret", "2001:db8::7"]),
        json!([429, "too_many_attempts", "2001:db8::8"]),
        json!([403, "site_suspended", null]),
        json!([200, null, null]),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_for_people_says_the_same() {
    let lines = lines("pretty").await;
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let is_told = |word: &&str| {
                word.starts_with("error.code=") || word.starts_with("client.address=")
            };
            line.split(' ')
                .filter(is_told)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let expected = [
        "error.code=\"invalid_proxy_secret\" client.address=203.0.113.7",
        "error.code=\"invalid_proxy_secret\" client.address=2001:db8::7",
        "error.code=\"too_many_attempts\" client.address=2001:db8::8",
        "error.code=\"site_suspended\"",
        "",
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_for_fail2ban_finds_whoever_guesses_and_nobody_else() {
    let place = Place::sqlite();
    let lines = lines("json").await;
    let file = place.work().join("lines");
    let in_journal = lines.iter().map(|line| format!("host mirrory[7]: {line}"));
    let all: Vec<_> = lines.iter().cloned().chain(in_journal).collect();
    std::fs::write(&file, all.join("\n")).unwrap();
    let mut python = Command::new(env::var_os("MIRRORY_TESTS_PYTHON").unwrap_or("python3".into()));
    python.args(["-c", FAIL2BAN, FILTER]);
    let output = python
        .stdin(std::fs::File::open(file).unwrap())
        .output()
        .unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    let expected = "203.0.113.7\n2001:db8::7\n\n\n\n".repeat(2);
    assert_eq!(found, expected, "{:?}", output.stderr);
}
