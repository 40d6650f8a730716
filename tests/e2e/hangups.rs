//! Clients that hang up amid their requests, thousands of times: what others are answered meanwhile
//! holds.

use std::{
    env,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use crate::{
    cli::accounts::{PASSWORD, create},
    client::Client,
    harness::{Place, Site, on_both_stores},
    server::Server,
};

on_both_stores! {
    nothing_that_is_answered_is_lost_while_others_hang_up,
}

/// How many requests are begun and cut off; more of them for a long run.
const HANG_UPS: &str = "MIRRORY_TESTS_HANG_UPS";
const USUAL_HANG_UPS: u32 = 2_000;

const CUTTERS: u32 = 4;
const SHOPS: u64 = 6;

/// Calls a day on the plan `free`.
const SMALL_PLAN: u64 = 5;

async fn nothing_that_is_answered_is_lost_while_others_hang_up(place: Place) {
    // Each change that is cut off would count.
    let place = place.with("MIRRORY__LIMITS__CHANGES_PER_MINUTE", "0");
    let server = place.start().await;
    let token = sign_in(&place, &server).await;
    let shop = place.create_site("enterprise");
    let small: Vec<_> = (0..6).map(|_| place.create_site("free")).collect();
    let cut_off = place.create_site("enterprise");

    let is_over = Arc::new(AtomicBool::new(false));
    let mut shops = JoinSet::new();
    for number in 0..SHOPS {
        let client = server.client();
        shops.spawn(sell(client, shop.secret.clone(), number, is_over.clone()));
    }
    let small_shops = tokio::spawn(use_up(server.client(), secrets(&small), is_over.clone()));
    hang_up_on(server.address, &cut_off, &token).await;
    is_over.store(true, Ordering::Relaxed);
    let sold = shops.join_all().await.concat();
    let passed = small_shops.await.unwrap();

    let path = format!("/api/v1/sites/{}", cut_off.id);
    let changed = change(&server, &path, &token).await;
    assert_eq!(changed, 200, "{}", server.stderr());
    assert_ne!(place.ask(["site", "show", &cut_off.id])["name"], "Shop");
    server.stop().await;

    // Nothing is in memory any more.
    let server = place.start().await;
    println!(
        "{} tokens sold, {passed:?} calls of {SMALL_PLAN} passed",
        sold.len()
    );
    assert!(
        passed.iter().all(|calls| *calls <= SMALL_PLAN),
        "{passed:?}"
    );
    let mut client = server.client();
    for Sold {
        token,
        machine,
        is_bound,
    } in &sold
    {
        if *is_bound {
            assert_eq!(client.reason(token, "another").await, "machine_mismatch");
        } else {
            assert!(client.validate(token, machine).await.is_valid());
        }
    }
    assert!(!sold.is_empty(), "the others are served, too");
    server.stop().await;
}

fn secrets(sites: &[Site]) -> Vec<String> {
    sites.iter().map(|site| site.secret.clone()).collect()
}

async fn sign_in(place: &Place, server: &Server) -> String {
    create(place, &["--email", "root@x.example", "--role", "admin"]);
    let body = json!({"email": "root@x.example", "password": PASSWORD});
    let answer = server.client().post("/api/v1/jwt", &[], &body).await;
    answer.unwrap().ok().field("access_token")
}

async fn change(server: &Server, path: &str, token: &str) -> u16 {
    let headers = [
        ("content-type", "application/json"),
        ("authorization", &*format!("Bearer {token}")),
    ];
    let mut client = server.client();
    let answer = client.send(
        "PATCH".parse().unwrap(),
        path,
        &headers,
        r#"{"name":"Last"}"#,
    );
    answer.await.unwrap().status
}

/// A token that was answered.
#[derive(Clone)]
struct Sold {
    token: String,
    machine: String,
    /// Whether a validation on the machine was answered that it is good.
    is_bound: bool,
}

/// Issues and binds until it is over. Who is told to come again does so.
async fn sell(
    mut client: Client,
    secret: String,
    number: u64,
    is_over: Arc<AtomicBool>,
) -> Vec<Sold> {
    let mut sold = Vec::new();
    let machine = format!("machine-{number}");
    while !is_over.load(Ordering::Relaxed) {
        let issued = client.generate(&secret, number + 1).await;
        if issued.status != 200 {
            assert_eq!(issued.status, 503, "{issued:?}");
            continue;
        }
        let token = issued.field("token");
        let verdict = client.validate(&token, &machine).await;
        assert!(verdict.is_valid() || verdict.status == 503, "{verdict:?}");
        sold.push(Sold {
            token,
            machine: machine.clone(),
            is_bound: verdict.status == 200,
        });
    }
    sold
}

/// Uses small plans up, one call of each in turn, and goes on; how many of each passed.
async fn use_up(mut client: Client, secrets: Vec<String>, is_over: Arc<AtomicBool>) -> Vec<u64> {
    let mut passed = vec![0; secrets.len()];
    while !is_over.load(Ordering::Relaxed) {
        for (secret, passed) in secrets.iter().zip(&mut passed) {
            let answer = client.generate(secret, 1).await;
            *passed += u64::from(answer.status == 200);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    passed
}

/// Sends requests that change a site, and resets their connections 0.2 to 4 ms later.
async fn hang_up_on(address: SocketAddr, site: &Site, token: &str) {
    let all = env::var(HANG_UPS).map_or(USUAL_HANG_UPS, |count| count.parse().unwrap());
    let mut cutters = JoinSet::new();
    for cutter in 0..CUTTERS {
        let (id, token) = (site.id.clone(), token.to_owned());
        cutters.spawn_blocking(move || {
            for number in (cutter..all).step_by(CUTTERS as usize) {
                let body = json!({"name": format!("Shop {number}")}).to_string();
                let request = format!(
                    "PATCH /api/v1/sites/{id} HTTP/1.1\r\nHost: here\r\n\
                     Authorization: Bearer {token}\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let after = Duration::from_micros(u64::from(200 + number * 397 % 3_800));
                cut_off(address, &request, after);
            }
        });
    }
    cutters.join_all().await;
}

/// In a thread of its own: the timers of a runtime know no less than a millisecond.
fn cut_off(address: SocketAddr, request: &str, after: Duration) {
    tokio::runtime::Handle::current().block_on(async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_zero_linger().unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        thread::sleep(after);
    });
}
