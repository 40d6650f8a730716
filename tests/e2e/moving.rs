//! `mirrory export` and `mirrory import`: a service goes on elsewhere, on the other kind of store.

use std::{
    fs::{self, File},
    os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    process::Stdio,
};

use serde_json::{Value, json};

use crate::{
    cli::accounts,
    harness::{MASTER_KEY, Place, on_both_stores},
};

on_both_stores! {
    a_service_goes_on_where_it_was_moved_to,
    an_export_through_a_pipe_is_the_same,
    a_file_that_was_cut_off_is_told_and_taken_up_again,
    what_cannot_be_written_leaves_nothing_behind,
    nothing_is_replaced_by_an_export,
}

/// Where the service is to be moved to: the other kind of store, with the master key carried over.
async fn destination(place: &Place) -> Place {
    if place.is_embedded() {
        let key = fs::read_to_string(place.work().join("data/master.key")).unwrap();
        let destination = Place::postgres(crate::postgres::shared()).await;
        destination.with("MIRRORY__SECRETS__MASTER_KEY", key.trim())
    } else {
        let destination = Place::sqlite();
        let folder = destination.work().join("data");
        fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let file = folder.join("master.key");
        fs::write(&file, MASTER_KEY).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        destination
    }
}

fn path(place: &Place, name: &str) -> String {
    place.work().join(name).to_str().unwrap().to_owned()
}

/// The usage of a site, without the times that pass.
fn usage(place: &Place, site: &str) -> Value {
    let mut usage = place.ask(["usage", site]);
    for window in ["day", "month"] {
        usage[window]["resets_at"] = Value::Null;
    }
    usage
}

async fn a_service_goes_on_where_it_was_moved_to(place: Place) {
    let server = place.start().await;
    let site = place.create_site("professional");
    let mut client = server.client();
    let issued = client.generate_once(&site.secret, 7, "order-7").await.ok();
    let token = issued.field("token");
    assert!(client.validate(&token, "mine").await.is_valid());
    accounts::create(&place, &["--email", "ada@shop.example"]);
    let credentials = json!({"email": "ada@shop.example", "password": accounts::PASSWORD});
    let signed_in = client.post("/api/v1/jwt", &[], &credentials).await.unwrap();
    let refresh = json!({"refresh_token": signed_in.ok().field("refresh_token")});
    server.stop().await;
    let used = usage(&place, &site.id);
    let sites = place.ask(["site", "list"]);

    let file = path(&place, "house.ndjson");
    let exported = place.ask(["export", "--output", &file]);
    assert_eq!(exported["file"], file.as_str());
    assert_eq!(exported["rows"]["tokens"], 1);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let said = fs::read_to_string(&file).unwrap();
    assert!(!said.contains(&site.secret) && !said.contains(&token));

    let destination = destination(&place).await;
    let imported = destination.ask(["import", &file]);
    assert_eq!(imported["rows"], exported["rows"]);
    assert_eq!(destination.ask(["import", &file])["inserted"], 0);
    assert_eq!(destination.ask(["site", "list"]), sites);
    assert_eq!(usage(&destination, &site.id), used);

    let server = destination.start().await;
    let mut client = server.client();
    assert!(client.validate(&token, "mine").await.is_valid());
    assert_eq!(client.reason(&token, "another").await, "machine_mismatch");
    let replayed = client.generate_once(&site.secret, 7, "order-7").await.ok();
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    assert_eq!(replayed.field("token_id"), issued.field("token_id"));
    let refreshed = client.post("/api/v1/jwt/refresh", &[], &refresh).await;
    refreshed.unwrap().ok();
    let signed_in = client.post("/api/v1/jwt", &[], &credentials).await.unwrap();
    signed_in.ok();
    assert_eq!(destination.ask(["site", "list"]), sites, "no first site");
    server.stop().await;
}

async fn an_export_through_a_pipe_is_the_same(place: Place) {
    place.start().await.stop().await;
    place.create_site("free");
    let file = path(&place, "house.ndjson");
    let done = place.run(["export", "--output", &file]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.complaint().contains("is not in it"), "{done:?}");
    assert!(done.stdout.contains(&file) && done.stdout.contains("master key"));
    let done = place.run(["export"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.complaint().contains("is not in it"), "{done:?}");
    let file = fs::read_to_string(&file).unwrap();
    let rows = |text: &str| {
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines[1..lines.len() - 1].to_vec()
    };
    assert_eq!(rows(&done.stdout), rows(&file));

    let destination = destination(&place).await;
    fs::write(destination.work().join("piped"), &done.stdout).unwrap();
    let mut command = destination.program(["import"]);
    let piped = File::open(destination.work().join("piped")).unwrap();
    command.stdin(Stdio::from(piped));
    let done = destination.finish(command);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(
        destination.ask(["site", "list"]),
        place.ask(["site", "list"])
    );
}

async fn a_file_that_was_cut_off_is_told_and_taken_up_again(place: Place) {
    place.start().await.stop().await;
    place.create_site("free");
    let file = path(&place, "house.ndjson");
    place.ask(["export", "--output", &file]);
    let whole = fs::read(&file).unwrap();
    let destination = destination(&place).await;
    fs::write(&file, &whole[..whole.len() - 30]).unwrap();
    let done = destination.run(["import", &file, "--json"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let error = done.document()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("incomplete"), "{error}");
    fs::write(&file, &whole).unwrap();
    destination.ask(["import", &file]);
    assert_eq!(
        destination.ask(["site", "list"]),
        place.ask(["site", "list"])
    );
}

async fn what_cannot_be_written_leaves_nothing_behind(place: Place) {
    place.start().await.stop().await;
    let nowhere = path(&place, "nowhere/house.ndjson");
    let done = place.run(["export", "--output", &nowhere]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaint().contains("cannot write"), "{done:?}");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = place.program(["export"]);
    let status = command.stdout(full).stderr(Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

async fn nothing_is_replaced_by_an_export(place: Place) {
    place.start().await.stop().await;
    let work = place.work();
    fs::write(work.join("file"), "precious").unwrap();
    fs::create_dir(work.join("folder")).unwrap();
    symlink("nowhere", work.join("link")).unwrap();
    for occupied in ["file", "folder", "link"] {
        let done = place.run(["export", "--output", occupied]);
        assert_eq!(done.code, Some(1), "{occupied}: {done:?}");
        assert!(done.complaint().contains("is not replaced"), "{done:?}");
        assert!(!work.join(format!("{occupied}.new")).exists());
    }
    assert_eq!(fs::read_to_string(work.join("file")).unwrap(), "precious");
    place.ask(["export", "--output", "house.ndjson"]);
    assert!(!work.join("house.ndjson.new").exists());
}

#[test]
fn wrong_usage_ends_with_2_and_makes_no_store() {
    let place = Place::sqlite();
    for arguments in [
        &["import", "no-such-file"][..],
        &["export", "--json"],
        &["export", "--output"],
    ] {
        let done = place.run(arguments);
        assert_eq!(done.code, Some(2), "{arguments:?} {done:?}");
    }
    assert!(!place.work().join("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_master_key_an_export_is_refused_and_no_other_key_is_made() {
    let place = Place::sqlite();
    place.start().await.stop().await;
    let file = path(&place, "house.ndjson");
    place.ask(["export", "--output", &file]);
    let destination = Place::sqlite();
    let done = destination.run(["import", &file]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr.contains("carry that master key over"),
        "{done:?}"
    );
    assert!(!destination.work().join("data/master.key").exists());
    let key = place.work().join("data/master.key");
    fs::copy(key, destination.work().join("data/master.key")).unwrap();
    destination.ask(["import", &file]);
    assert_eq!(
        destination.ask(["site", "list"]),
        place.ask(["site", "list"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_a_server_has_run_on_is_left_alone() {
    let [place, other] = [Place::sqlite(), Place::sqlite()];
    for place in [&place, &other] {
        place.start().await.stop().await;
    }
    let file = path(&place, "house.ndjson");
    place.ask(["export", "--output", &file]);
    let key = fs::read_to_string(place.work().join("data/master.key")).unwrap();
    let sites = other.ask(["site", "list"]);
    let done = other.run(["import", &file]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaint().contains("master key"), "{done:?}");
    let other = other.with("MIRRORY__SECRETS__MASTER_KEY", key.trim());
    let done = other.run(["import", &file]);
    assert_eq!(done.code, Some(1));
    let line = done.complaint();
    assert!(line.contains("data key of its own"), "{line}");
    assert!(line.contains("to empty a store"), "{line}");
    let other = other.without("MIRRORY__SECRETS__MASTER_KEY");
    assert_eq!(other.ask(["site", "list"]), sites);
}
