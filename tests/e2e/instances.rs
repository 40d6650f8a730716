//! Several instances on one PostgreSQL: they share everything, and nothing is let through twice.

use std::collections::HashSet;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    client::{Answer, Client},
    harness::{PATIENCE, Place},
    postgres,
    server::Server,
};

/// Two instances on one empty database, and where they run.
async fn two() -> (Place, [Server; 2]) {
    let place = Place::postgres(postgres::shared()).await;
    let mut servers = [place.spawn(), place.spawn()];
    for server in &mut servers {
        server.ready().await;
    }
    (place, servers)
}

/// `count` connected clients, taking turns with the servers.
async fn clients(servers: &[Server], count: usize) -> Vec<Client> {
    let turns = servers.iter().cycle().take(count);
    let mut clients: Vec<Client> = turns.map(Server::client).collect();
    // Connected first, so that what follows is a race of requests alone.
    join_all(clients.iter_mut().map(|client| client.get("/livez"))).await;
    clients
}

/// What a call comes to, and how often the store was late for it and it had to come again: that is
/// allowed on a machine with too much to do, and then no more is promised than in an outage.
async fn persist(mut call: impl AsyncFnMut() -> Answer) -> (Answer, usize) {
    let began = Instant::now();
    let mut late = 0;
    loop {
        let answer = call().await;
        if answer.status != 503 {
            return (answer, late);
        }
        assert!(began.elapsed() < PATIENCE, "{answer:?}");
        late += 1;
    }
}

fn count(answers: &[Answer], status: u16) -> usize {
    let counted = |answer: &&Answer| answer.status == status;
    answers.iter().filter(counted).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_that_start_at_once_on_an_empty_database_share_all_they_make() {
    let place = Place::postgres(postgres::shared())
        .await
        .with(
            "MIRRORY__BOOTSTRAP__PROXY_SECRET",
            "the secret of the default site",
        )
        .with("MIRRORY__BOOTSTRAP__PLAN", "developer");
    let mut servers: Vec<Server> = (0..4).map(|_| place.spawn()).collect();
    for server in &mut servers {
        server.ready().await;
    }
    assert_eq!(place.ask(["key", "list"]).as_array().unwrap().len(), 1);
    let sites = place.ask(["site", "list"]);
    assert_eq!(sites.as_array().unwrap().len(), 1, "{sites}");
    assert_eq!(sites[0]["name"], "default");
    assert_eq!(sites[0]["plan"], "developer");
    for issuer in &servers {
        let token = issuer
            .client()
            .token("the secret of the default site")
            .await;
        for other in &servers {
            assert!(other.client().validate(&token, "machine").await.is_valid());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_40_calls_racing_for_a_plan_of_5_a_day_5_pass() {
    let (place, servers) = two().await;
    let site = place.create_site("free");
    let mut clients = clients(&servers, 40).await;
    let racing = clients
        .iter_mut()
        .map(|client| client.generate(&site.secret, 1));
    let answers = join_all(racing).await;
    let (passed, late) = (count(&answers, 200), count(&answers, 503));
    assert_eq!(passed + late + count(&answers, 429), 40, "{answers:?}");
    let usage = place.ask(["usage", &site.id]);
    let used = usage["day"]["used"].as_u64().unwrap();
    assert!(
        passed as u64 <= used && used <= 5,
        "{passed} passed, {used} used"
    );
    assert!(passed == 5 || late > 0, "{passed} passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_machines_racing_for_a_token_one_wins() {
    let (place, servers) = two().await;
    let site = place.create_site("developer");
    let issued = servers[0].client().generate(&site.secret, 1).await.ok();
    let token = issued.field("token");
    let machines: Vec<String> = (0..64).map(|number| format!("machine-{number}")).collect();
    let mut clients = clients(&servers, 64).await;
    let racing = clients
        .iter_mut()
        .zip(&machines)
        .map(|(client, machine)| persist(async || client.validate(&token, machine).await));
    let (answers, _): (Vec<Answer>, Vec<usize>) = join_all(racing).await.into_iter().unzip();
    let (winners, losers): (Vec<_>, Vec<_>) = answers.iter().partition(|one| one.is_valid());
    assert_eq!(winners.len(), 1);
    for loser in losers {
        assert_eq!(loser.body()["reason"], "machine_mismatch", "{loser:?}");
    }
    let record = place.ask(["token", "show", &issued.field("token_id")]);
    assert_eq!(record["machine_id"], winners[0].field("machine_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_at_both_gives_one_token_and_one_charge() {
    let (place, servers) = two().await;
    let site = place.create_site("free");
    let mut clients = clients(&servers, 16).await;
    let racing = clients
        .iter_mut()
        .map(|client| persist(async || client.generate_once(&site.secret, 1, "order-17").await));
    let (answers, late): (Vec<Answer>, Vec<usize>) = join_all(racing).await.into_iter().unzip();
    let late: usize = late.into_iter().sum();
    assert_eq!(count(&answers, 200), 16, "{answers:?}");
    let ids: HashSet<String> = answers.iter().map(|one| one.field("token_id")).collect();
    assert_eq!(ids.len(), 1);
    let replayed = |answer: &&Answer| answer.header("idempotency-replayed") == Some("true");
    let replays = answers.iter().filter(replayed).count();
    assert!(replays == 15 || replays == 16 && late > 0, "{answers:?}");
    let usage = place.ask(["usage", &site.id]);
    let used = usage["day"]["used"].as_u64().unwrap();
    assert!(used == 1 || used > 1 && late > 0, "{usage}");

    // At either instance, the key stands for that request alone.
    for server in &servers {
        let other = server
            .client()
            .generate_once(&site.secret, 2, "order-17")
            .await;
        assert_eq!(other.status, 422);
        assert_eq!(other.field("error"), "idempotency_key_reused");
    }
}
