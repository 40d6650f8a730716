//! The disk under an embedded store is full for a while.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{cli::accounts::PASSWORD, client::Client, harness::Place, server::Server, small_disk};

/// Makes an account, and then serves.
const SERVE: &str = r#""$0" account create --email root@x.example --role admin \
    --password-stdin < password > /dev/null && exec "$0" serve --json"#;

/// A server whose store is on a small disk.
async fn start(place: &Place, folder: &Path) -> Server {
    fs::write(place.work().join("password"), PASSWORD).unwrap();
    let program = place.program::<&str>([]);
    let mut command = small_disk::command("6m", folder, "sh");
    command.args(["-c", SERVE]).arg(program.get_program());
    let settings = program.get_envs();
    command.envs(settings.filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(place.work());
    let mut server = place.spawn_command(command);
    server.ready().await;
    server
}

async fn of_proxy(client: &mut Client, call: &str, secret: &str, token_id: &str) -> u16 {
    let path = format!("/mirrory/{call}");
    let body = json!({"token_id": token_id, "proxy_secret": secret});
    client.post(&path, &[], &body).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn all_works_again_once_there_is_room() {
    let place = Place::sqlite();
    let folder = place.work().join("data");
    fs::create_dir(&folder).unwrap();
    if !small_disk::can_be_had(&folder) {
        return;
    }
    let server = start(&place, &folder).await;
    let document: Value = serde_json::from_str(&server.stdout()).unwrap();
    let secret = document["site"]["proxy_secret"].as_str().unwrap();
    let mut client = server.client();
    let mut issued = Vec::new();
    for user in 1..=20 {
        let answer = client.generate(secret, user).await.ok();
        let (token, token_id) = (answer.field("token"), answer.field("token_id"));
        assert!(client.validate(&token, "machine").await.is_valid());
        issued.push((token, token_id));
    }

    // Seen from where the disk is.
    let disk = format!("/proc/{}/root{}", server.process.id(), folder.display());
    small_disk::fill(Path::new(&disk));
    let mut left = issued.iter();
    let refused = loop {
        let (_, token_id) = left.next().expect("the disk is full");
        match of_proxy(&mut client, "revoke-token", secret, token_id).await {
            503 => break token_id,
            status => assert_eq!(status, 200),
        }
    };
    small_disk::free(Path::new(&disk));

    assert_eq!(
        of_proxy(&mut client, "revoke-token", secret, refused).await,
        200
    );
    for (token, token_id) in &issued[..issued.len() - left.len()] {
        assert_eq!(
            client.reason(token, "machine").await,
            "revoked",
            "{token_id}"
        );
    }
    let (token, token_id) = left.next().unwrap();
    let released = of_proxy(&mut client, "release-machine", secret, token_id).await;
    assert_eq!(released, 200);
    assert!(client.validate(token, "another").await.is_valid());
    changes_are_made(&mut client).await;
    server.stop().await;
}

async fn changes_are_made(client: &mut Client) {
    let body = json!({"email": "root@x.example", "password": PASSWORD});
    let signed_in = client.post("/api/v1/jwt", &[], &body).await.unwrap().ok();
    let bearer = format!("Bearer {}", signed_in.field("access_token"));
    let headers = [("authorization", &*bearer)];
    let site = json!({"name": "Another"});
    let made = client.post("/api/v1/sites", &headers, &site).await.unwrap();
    assert_eq!(made.status, 201, "{made:?}");
    let path = format!("/api/v1/sites/{}/rotate-secret", made.field("id"));
    let rotated = client.post(&path, &headers, &json!({})).await.unwrap();
    assert_eq!(rotated.status, 200, "{rotated:?}");
}
