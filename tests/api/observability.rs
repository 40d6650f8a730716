//! The files for Prometheus and Grafana: they are right, and what they look at is there.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use crate::{
    harness::Store,
    metrics::{drive, measured, scrape},
    promtool,
};

/// What Prometheus makes of a histogram.
const SUFFIXES: [&str; 3] = ["_bucket", "_count", "_sum"];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("config/observability")
        .join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap()
}

/// The names of our metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_part(character));
    let ours = words.filter(|word| word.starts_with("mirrory_"));
    ours.map(str::to_owned).collect()
}

/// The metrics that there are, by the lines that say what they are.
fn exposed(exposition: &str) -> BTreeSet<String> {
    let names = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    names.map(str::to_owned).collect()
}

fn family(name: &str) -> &str {
    let base = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
    base.unwrap_or(name)
}

#[test]
fn promtool_accepts_the_rules_and_the_configuration_and_their_tests_pass() {
    for (check, name) in [
        (["check", "rules"], "alerts.yml"),
        (["check", "config"], "prometheus.yml"),
        (["test", "rules"], "alerts.test.yml"),
    ] {
        promtool::accepts(&[check[0], check[1], file(name).to_str().unwrap()], "");
    }
}

#[tokio::test]
async fn every_metric_that_is_looked_at_is_there_and_every_one_that_is_there_is_looked_at() {
    let app = measured(Store::Postgres).await;
    drive(&app).await;
    // What runs in the background counts its failures from the start, when there are none yet.
    let running = app.background.spawn();
    let exposed = exposed(&scrape(&app).await);
    running.stop().await;
    let watched = named(&(text("alerts.yml") + &text("dashboard.json")));
    let watched: BTreeSet<_> = watched.iter().map(|name| family(name).to_owned()).collect();
    assert_eq!(watched, exposed);
}

#[test]
fn every_alert_says_what_to_do() {
    let rules = text("alerts.yml");
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for part in ["severity: ", "summary: ", "runbook: "] {
            let line = alert.lines().find(|line| line.contains(part));
            let line = line.unwrap_or_else(|| panic!("{name} has no {part}"));
            assert!(line.len() > part.len() + 8, "{name} {line}");
        }
    }
}

#[test]
fn every_panel_has_a_title_and_asks_something_of_the_chosen_instances() {
    let dashboard: Value = serde_json::from_str(&text("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
        assert!(!panel["title"].as_str().unwrap().is_empty());
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().unwrap() {
            let asked = target["expr"].as_str().unwrap();
            assert!(asked.contains(r#"instance=~"$instance""#), "{asked}");
        }
    }
}
