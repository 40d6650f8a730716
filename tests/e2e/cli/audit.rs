//! `mirrory audit list` and `mirrory site assign`

use serde_json::{Value, json};

use super::{accounts::create, assert_fields};
use crate::harness::{Place, on_both_stores};

on_both_stores! {
    a_site_is_given_to_an_account_and_the_log_tells,
    no_owner_is_given_one_site_too_many,
}

const ROW: &[&str] = &[
    "id",
    "time",
    "event",
    "actor",
    "subject",
    "site_id",
    "account_id",
    "address",
    "user_agent",
    "outcome",
    "detail",
    "count",
];

async fn no_owner_is_given_one_site_too_many(place: Place) {
    let place = place.with("MIRRORY__LIMITS__SITES_PER_OWNER", "1");
    let _server = place.start().await;
    let [first, second] = [place.create_site("free"), place.create_site("free")];
    let account = create(&place, &["--email", "ada@shop.example"]);
    let account = account["id"].as_str().unwrap();
    place.ask(["site", "assign", &first.id, account]);
    let done = place.run(["site", "assign", &second.id, account]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.complaint().contains("limits.sites_per_owner"),
        "{done:?}"
    );
    place.ask(["site", "assign", &first.id, account]);
    place.ask(["site", "delete", &first.id]);
    place.ask(["site", "assign", &second.id, account]);
}

async fn a_site_is_given_to_an_account_and_the_log_tells(place: Place) {
    let _server = place.start().await;
    let site = place.create_site("free");
    let other = place.create_site("free");
    let account = create(&place, &["--email", "ada@shop.example"]);
    let account = account["id"].as_str().unwrap();
    let shown = place.ask(["site", "show", &site.id]);
    assert_eq!(shown["owner"], Value::Null);
    let assigned = place.ask(["site", "assign", &site.id, account]);
    assert_eq!(assigned["owner"], account);
    assert_eq!(place.ask(["site", "show", &site.id]), assigned);
    let nobody = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d";
    let done = place.run(["site", "assign", &site.id, nobody]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaint().contains("there is no account"), "{done:?}");

    let rows = place.ask(["audit", "list", "--site", &site.id]);
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_fields(&rows[0], ROW);
    assert_eq!(rows[0]["event"], "site.updated");
    let detail = json!({"owner": {"from": null, "to": account}});
    assert_eq!(rows[0]["detail"], detail);
    assert_eq!(rows[0]["actor"]["kind"], "operator");
    assert_eq!(rows[1]["event"], "site.created");
    let count = |arguments: &[&str]| {
        let listed = place.ask([&["audit", "list"], arguments].concat());
        listed.as_array().unwrap().len()
    };
    assert_eq!(count(&["--site", &other.id]), 1);
    assert_eq!(count(&["--event", "site.updated"]), 1);
    assert_eq!(count(&["--since", "2999-01-01T00:00:00Z"]), 0);
    assert_eq!(count(&["--since", "2999-01-01"]), 0);
    assert_eq!(count(&["--since", "2001-01-01", "--limit", "2"]), 2);
    assert_eq!(count(&["--limit", "2"]), 2);
    let text = place.run(["audit", "list"]).stdout;
    assert!(
        text.contains("site.updated") && text.contains("ACTOR.KIND"),
        "{text}"
    );
    assert!(text.contains("  operator  ") && !text.contains("\"kind\""));
}
