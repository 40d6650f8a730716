//! What is not imported, and not exported, and that it is said why.

use mirrory::{
    moving::{Export, ExportError, ImportError},
    store::{Database, database::COMMAND_DEADLINE},
};
use serde_json::Value;

use super::{export, fill, import, other, rows};
use crate::harness::{Store, on_both_stores};

on_both_stores!(
    another_row_in_the_place_of_one_is_not_overwritten,
    a_name_that_another_row_has_is_a_conflict,
    a_store_with_a_data_key_of_its_own_is_left_alone,
    without_the_master_key_nothing_is_written,
    what_is_no_export_is_refused,
    a_newer_export_is_refused,
    a_changed_export_is_noticed,
    a_line_that_cannot_be_read_is_named,
    a_text_that_not_every_store_can_hold_is_named,
    a_store_of_a_newer_version_is_not_exported,
);

const OTHER_KEY: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

/// An export, and an empty store of the other kind.
async fn setting(store: &Store) -> (String, Store) {
    fill(store).await;
    (export(store).await, other(store).await)
}

/// How many rows a store has of what is exported.
async fn size(store: &Store) -> usize {
    store.open().await;
    rows(&export(store).await).len()
}

/// The file with a line in the place of its first one.
fn with_header(file: &str, change: impl FnOnce(&mut Value)) -> String {
    let (header, rest) = file.split_once('\n').unwrap();
    let mut header = serde_json::from_str(header).unwrap();
    change(&mut header);
    format!("{header}\n{rest}")
}

async fn another_row_in_the_place_of_one_is_not_overwritten(store: Store) {
    let (file, target) = setting(&store).await;
    import(&target, &file).await.unwrap();
    let changed = "UPDATE tokens SET machine_id = 'other'";
    target.execute(changed).await.unwrap();
    let refused = import(&target, &file).await;
    let Err(ImportError::Conflict { table, key }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(table, "tokens");
    assert_eq!(key, "00000000-0000-7000-8000-000000000001");
    let machines: Vec<String> = target.column("SELECT machine_id FROM tokens").await;
    assert_eq!(machines, ["other"]);
}

async fn a_name_that_another_row_has_is_a_conflict(store: Store) {
    let (file, target) = setting(&store).await;
    import(&target, &file).await.unwrap();
    let renamed = file.replace(r#""kid":"text""#, r#""kid":"other""#);
    import(&target, &renamed).await.unwrap_err();
    let taken = file
        .replace(r#""secret_id":"00000000-"#, r#""secret_id":"11111111-"#)
        .replace(
            r#"{"table":"sites","row":{"site_id":"00000000-"#,
            r#"{"table":"sites","row":{"site_id":"11111111-"#,
        );
    let refused = import(&target, &taken).await;
    assert!(
        matches!(
            refused,
            Err(ImportError::Conflict { table: "sites", ref key })
                if key == "11111111-0000-7000-8000-000000000001"
        ),
        "{refused:?}"
    );
}

async fn a_store_with_a_data_key_of_its_own_is_left_alone(store: Store) {
    let (file, target) = setting(&store).await;
    target.state().await;
    let before = size(&target).await;
    let refused = import(&target, &file).await;
    assert!(
        matches!(refused, Err(ImportError::OtherDataKey)),
        "{refused:?}"
    );
    assert_eq!(size(&target).await, before);
}

async fn without_the_master_key_nothing_is_written(store: Store) {
    let (file, mut target) = setting(&store).await;
    target.config.secrets.master_key = Some(OTHER_KEY.to_owned().into());
    let refused = import(&target, &file).await;
    assert!(
        matches!(refused, Err(ImportError::WrongMasterKey)),
        "{refused:?}"
    );
    assert_eq!(size(&target).await, 0);
}

async fn what_is_no_export_is_refused(store: Store) {
    let (file, target) = setting(&store).await;
    for other in [
        "",
        "\n",
        "CREATE TABLE sites;\n",
        "{}\n",
        r#"{"format":"another","version":1}"#,
        "{\"format\":\"mirrory-export\",\"version\":1}\n",
        &file[..20],
        &file[1..],
    ] {
        let refused = import(&target, other).await;
        assert!(
            matches!(refused, Err(ImportError::NotAnExport)),
            "{other}: {refused:?}"
        );
    }
    assert_eq!(size(&target).await, 0);
}

async fn a_newer_export_is_refused(store: Store) {
    let (file, target) = setting(&store).await;
    let newer = with_header(&file, |header| header["version"] = 2.into());
    let refused = import(&target, &newer).await;
    assert!(
        matches!(refused, Err(ImportError::NewerFormat(2))),
        "{refused:?}"
    );
    let newer = with_header(&file, |header| {
        header["schema"] = 29_991_231_235_959_i64.into();
    });
    let refused = import(&target, &newer).await;
    assert!(
        matches!(refused, Err(ImportError::NewerStore)),
        "{refused:?}"
    );
    assert_eq!(size(&target).await, 0);
}

async fn a_changed_export_is_noticed(store: Store) {
    fill(&store).await;
    let file = export(&store).await;
    let changed = file.replace(r#""coins":1"#, r#""coins":2"#);
    assert_ne!(changed, file);
    let twice = format!("{file}{file}");
    let (all, end) = file.trim_end().rsplit_once('\n').unwrap();
    let miscounted = format!("{all}\n{}\n", end.replace(r#""tokens":1"#, r#""tokens":2"#));
    for file in [changed, twice, miscounted] {
        let refused = import(&other(&store).await, &file).await;
        assert!(
            matches!(refused, Err(ImportError::Changed(_))),
            "{refused:?}"
        );
    }
}

async fn a_line_that_cannot_be_read_is_named(store: Store) {
    let (file, target) = setting(&store).await;
    let (header, rest) = file.split_once('\n').unwrap();
    for line in [
        "",
        "no JSON",
        "{}",
        r#"{"table":"sites"}"#,
        r#"{"table":"changes","row":{"seq":1}}"#,
        r#"{"table":"tokens","row":{},"end":{"rows":{},"sha256":""}}"#,
    ] {
        let bad = format!("{header}\n{line}\n{rest}");
        let refused = import(&target, &bad).await;
        assert!(
            matches!(refused, Err(ImportError::BadLine { line: 2, .. })),
            "{line}: {refused:?}"
        );
    }
    let long = format!("{header}\n{}\n", " ".repeat(1 << 21));
    let refused = import(&target, &long).await;
    assert!(matches!(refused, Err(ImportError::Input(_))), "{refused:?}");
    assert_eq!(size(&target).await, 0);
}

async fn a_text_that_not_every_store_can_hold_is_named(store: Store) {
    let (file, target) = setting(&store).await;
    for written in [r"a\u0000b", r"\ud800", r"\udc00\ud800"] {
        let bad = file.replacen(r#""name":"text""#, &format!(r#""name":"{written}""#), 1);
        assert_ne!(bad, file);
        let number = bad.lines().position(|line| line.contains(written)).unwrap() + 1;
        let refused = import(&target, &bad).await;
        let Err(ImportError::BadLine { line, .. }) = refused else {
            panic!("{written}: {refused:?}");
        };
        assert_eq!(line, number as u64);
    }
    // Those that every store holds are the same however they are written.
    let written = file.replacen(r#""name":"text""#, r#""name":"t\u0065xt""#, 1);
    let refused = import(&target, &written).await;
    assert!(
        matches!(refused, Err(ImportError::Changed(_))),
        "{refused:?}"
    );
    let names: Vec<String> = target.column("SELECT name FROM accounts").await;
    assert_eq!(names, ["text"]);
}

async fn a_store_of_a_newer_version_is_not_exported(store: Store) {
    store.open().await;
    let newer = "UPDATE _sqlx_migrations SET version = 29991231235959 WHERE version = \
                 (SELECT max(version) FROM _sqlx_migrations)";
    store.execute(newer).await.unwrap();
    let database = Database::open(&store.config.database, COMMAND_DEADLINE).await;
    let refused = Export::begin(&database.unwrap()).await;
    assert!(matches!(refused, Err(ExportError::NewerStore)));
}
