//! Lists of sites, page by page.

use serde_json::json;

use super::SITES;
use crate::harness::{Store, TestApp, TestSite, next_page};

on_both_stores! {
    lists_are_told_page_by_page,
    a_page_misses_nothing_when_a_site_goes,
    bad_pages_are_refused,
}

async fn lists_are_told_page_by_page(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let mut made = Vec::new();
    for _ in 0..7 {
        app.site("free").await;
        made.push(app.site_of(&ada).await.id.to_string());
    }
    made.sort();
    for (limit, expected) in [(3, &[3, 3, 1][..]), (7, &[7]), (1, &[1; 7]), (100, &[7])] {
        let path = format!("{SITES}?limit={limit}");
        let (rows, lengths) = app.pages(&ada, &path).await;
        assert_eq!(lengths, expected);
        let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids, made);
    }
    let answer = app
        .see(&ada, &format!("{SITES}?limit=2&unknown=%26x&unknown=y"))
        .await;
    let link = answer.header("link").unwrap();
    assert!(
        link.starts_with("<?unknown=%26x&unknown=y&limit=2&cursor="),
        "{link}"
    );
}

async fn a_page_misses_nothing_when_a_site_goes(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    for _ in 0..4 {
        app.site("free").await;
    }
    let all = app.see(&root, SITES).await.ok();
    let first = app.see(&root, &format!("{SITES}?limit=2")).await;
    let next = next_page(SITES, first.header("link").unwrap());
    let last_seen = all[1]["id"].as_str().unwrap();
    let gone = TestSite {
        id: last_seen.parse().unwrap(),
        secret: String::new(),
    };
    app.delete(&gone).await;
    assert_eq!(app.see(&root, &next).await.ok(), json!([all[2], all[3]]));
}

async fn bad_pages_are_refused(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    for (query, bad) in [
        ("limit=0", &["limit"][..]),
        ("limit=101", &["limit"]),
        ("limit=x&cursor=x", &["limit", "cursor"]),
        ("limit=", &["limit"]),
        ("limit=1&limit=2", &["limit"]),
        ("cursor=AAAA", &["cursor"]),
    ] {
        let answer = app.see(&ada, &format!("{SITES}?{query}")).await;
        assert_eq!(answer.bad_fields(), bad, "{query}");
    }
}
