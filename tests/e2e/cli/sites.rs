//! `mirrory site …`

use std::{
    env, fs,
    fs::File,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;
use tokio::time::sleep;

use super::{assert_fields, follows, generate_status, reason};
use crate::harness::{Done, Place, on_both_stores};

on_both_stores! {
    the_site_commands_print_what_they_promise,
    suspending_and_resuming_are_followed,
    another_plan_is_followed_and_keeps_the_counters,
    deleting_a_site_ends_its_secrets_and_its_tokens,
    a_rotated_secret_goes_on_for_its_grace_and_no_longer,
}

const SITE: &[&str] = &["id", "name", "url", "plan", "status", "owner", "created_at"];

async fn the_site_commands_print_what_they_promise(place: Place) {
    let _server = place.start().await;
    let url = "https://shop.example/";
    let created = place.ask(["site", "create", "--name", "Müller & Söhne", "--url", url]);
    assert_fields(&created, &[SITE, &["proxy_secret"]].concat());
    assert_eq!(created["name"], "Müller & Söhne");
    assert_eq!(created["url"], url);
    assert_eq!(created["plan"], "free");
    assert_eq!(created["status"], "active");
    let id = created["id"].as_str().unwrap();
    assert!(id.starts_with("site_") && id.len() == 31, "{id}");
    let at = created["created_at"].as_str().unwrap();
    assert!(at.len() == 20 && at.ends_with('Z'), "{at}");

    let mut shown = created.clone();
    shown.as_object_mut().unwrap().remove("proxy_secret");
    assert_eq!(place.ask(["site", "show", id]), shown);
    let list = place.ask(["site", "list"]);
    assert!(list.as_array().unwrap().contains(&shown), "{list}");
    shown["plan"] = json!("developer");
    assert_eq!(place.ask(["site", "set-plan", id, "developer"]), shown);
    shown["status"] = json!("suspended");
    assert_eq!(place.ask(["site", "suspend", id]), shown);
    assert_eq!(place.ask(["site", "suspend", id]), shown);
    shown["status"] = json!("active");
    assert_eq!(place.ask(["site", "resume", id]), shown);
    let rotated = place.ask(["site", "rotate-secret", id]);
    assert_fields(&rotated, &["id", "proxy_secret", "previous_expires_at"]);
    shown["status"] = json!("deleted");
    assert_eq!(place.ask(["site", "delete", id]), shown);
    let list = place.ask(["site", "list"]);
    assert!(!list.to_string().contains(id), "{list}");
}

async fn suspending_and_resuming_are_followed(place: Place) {
    let server = place.start().await;
    let site = place.create_site("developer");
    let token = server.client().token(&site.secret).await;
    place.ask(["site", "suspend", &site.id]);
    follows(403, async || generate_status(&server, &site.secret).await).await;
    follows("site_suspended".into(), async || {
        reason(&server, &token).await
    })
    .await;
    place.ask(["site", "resume", &site.id]);
    follows(200, async || generate_status(&server, &site.secret).await).await;
    follows(String::new(), async || reason(&server, &token).await).await;
}

async fn another_plan_is_followed_and_keeps_the_counters(place: Place) {
    let server = place.start().await;
    let site = place.create_site("free");
    for _ in 0..5 {
        assert_eq!(generate_status(&server, &site.secret).await, 200);
    }
    assert_eq!(generate_status(&server, &site.secret).await, 429);
    place.ask(["site", "set-plan", &site.id, "developer"]);
    follows(200, async || generate_status(&server, &site.secret).await).await;
    let usage = place.ask(["usage", &site.id]);
    assert_eq!(usage["day"]["used"], 6);
    place.ask(["site", "set-plan", &site.id, "free"]);
    follows(429, async || generate_status(&server, &site.secret).await).await;
}

async fn deleting_a_site_ends_its_secrets_and_its_tokens(place: Place) {
    let server = place.start().await;
    let site = place.create_site("free");
    let answer = server.client().generate(&site.secret, 1).await.ok();
    let token = answer.field("token");
    place.ask(["site", "delete", &site.id]);
    follows(401, async || generate_status(&server, &site.secret).await).await;
    follows("revoked".into(), async || reason(&server, &token).await).await;
    let shown = place.ask(["token", "show", &answer.field("token_id")]);
    assert_eq!(shown["state"], "revoked");
    assert_eq!(place.run(["site", "delete", &site.id]).code, Some(1));
}

async fn a_rotated_secret_goes_on_for_its_grace_and_no_longer(place: Place) {
    let server = place.start().await;
    let site = place.create_site("enterprise");
    let rotate = |grace: &str| {
        let rotated = place.ask(["site", "rotate-secret", &site.id, "--grace", grace]);
        assert_eq!(rotated["id"], site.id);
        assert!(rotated["previous_expires_at"].is_string(), "{rotated}");
        rotated["proxy_secret"].as_str().unwrap().to_owned()
    };
    let second = rotate("1h");
    follows(200, async || generate_status(&server, &second).await).await;
    assert_eq!(generate_status(&server, &site.secret).await, 200);
    // The newest old one goes on, any other ends.
    let third = rotate("1h");
    follows(401, async || generate_status(&server, &site.secret).await).await;
    assert_eq!(generate_status(&server, &second).await, 200);
    let fourth = rotate("0s");
    follows(401, async || generate_status(&server, &third).await).await;
    follows(401, async || generate_status(&server, &second).await).await;
    let fifth = rotate("1s");
    follows(200, async || generate_status(&server, &fourth).await).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(generate_status(&server, &fourth).await, 401);
    assert_eq!(generate_status(&server, &fifth).await, 200);
}

/// Runs a command on a terminal where this is typed.
fn on_terminal(place: &Place, arguments: &[&str], typed: &str) -> Done {
    const TERMINAL: &str =
        "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let python = env::var("MIRRORY_TESTS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let program = place.program(arguments);
    let mut command = Command::new(python);
    command.args(["-c", TERMINAL]).arg(program.get_program());
    command.args(program.get_args()).env_clear();
    let variables = program.get_envs();
    command.envs(variables.filter_map(|(name, value)| value.map(|value| (name, value))));
    let keys = place.work().join("typed");
    fs::write(&keys, typed).unwrap();
    let keys = Stdio::from(File::open(&keys).unwrap());
    command.current_dir(place.work()).stdin(keys);
    place.finish(command)
}

#[test]
fn on_a_terminal_a_site_is_deleted_by_who_types_its_name() {
    let place = Place::sqlite();
    let [first, second, third] = [(); 3].map(|()| place.create_site("free"));
    let done = on_terminal(&place, &["site", "delete", &first.id], "Shp\n");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stdout.contains("nothing was deleted"), "{done:?}");
    let done = on_terminal(&place, &["site", "delete", &first.id], "Shop\n");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("status: deleted"), "{done:?}");
    for arguments in [
        ["site", "delete", &second.id, "--yes"],
        ["site", "delete", &third.id, "--json"],
    ] {
        let done = on_terminal(&place, &arguments, "");
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(!done.stdout.contains("Type its name"), "{done:?}");
    }
    assert_eq!(place.ask(["site", "list"]), json!([]));
}
