//! A disk that is full for a while, under an embedded store. SQLite ends a transaction by itself then.

use std::{env, fmt::Debug, fs, path::PathBuf, process};

use mirrory::{
    quota::QuotaError,
    store::{StoreError, changes::Actor},
    tokens::Idempotency,
};

use crate::{
    harness::{Instance, Store, user},
    quota::{ledger, new_site, plans, used},
    small_disk,
};

/// Where the disk is, for the process that the test runs in.
const DISK: &str = "MIRRORY_TESTS_DISK";

/// Runs the test of this name in a process of its own, over a store on a small disk.
fn on_a_small_disk(name: &str, test: impl AsyncFnOnce(Disk)) {
    if let Some(folder) = env::var_os(DISK) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(async { test(Disk::at(folder.into()).await).await });
    }
    let folder = env::temp_dir().join(format!("mirrory-disk-{}-{name}", process::id()));
    fs::create_dir(&folder).unwrap();
    if small_disk::can_be_had(&folder) {
        let mut command = small_disk::command("8m", &folder, env::current_exe().unwrap());
        command.args(["--exact", &format!("full_disk::{name}"), "--nocapture"]);
        let status = command.env(DISK, &folder).status().unwrap();
        assert!(status.success(), "{status}");
    }
    fs::remove_dir(&folder).unwrap();
}

struct Disk {
    folder: PathBuf,
    store: Store,
    instance: Instance,
}

impl Disk {
    async fn at(folder: PathBuf) -> Self {
        let store_folder = folder.join("store");
        let url = format!("sqlite://{}", store_folder.join("mirrory.db").display());
        let store = Store::new(&url, Some(store_folder));
        Self {
            instance: store.instance().await,
            folder,
            store,
        }
    }

    /// Fills the disk, so that nothing more can be written.
    async fn fill(&self) {
        let empty_the_log = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.store.execute(empty_the_log).await.unwrap();
        small_disk::fill(&self.folder);
    }

    /// Calls on a full disk until some calls have failed, and again when there is room; how many were
    /// answered that it was done.
    async fn answered<T, E: Debug>(&self, call: impl AsyncFn() -> Result<T, E>) -> i64 {
        const MOST: usize = 50;
        let mut answered = 0;
        for _ in 0..3 {
            self.fill().await;
            let mut failed = 0;
            for _ in 0..MOST {
                match call().await {
                    Ok(_) => answered += 1,
                    Err(_) => failed += 1,
                }
                if failed == 3 {
                    break;
                }
            }
            assert_eq!(failed, 3, "where nothing can be written, calls fail");
            small_disk::free(&self.folder);
            for _ in 0..3 {
                call().await.unwrap();
                answered += 1;
            }
        }
        answered
    }
}

#[test]
fn changes_work_again() {
    on_a_small_disk("changes_work_again", async |disk| {
        let sites = &disk.instance.sites;
        let (site_id, _) = disk.instance.create_site().await;
        let change = async || -> Result<(), StoreError> {
            let mut tx = disk.instance.database.begin().await?;
            sites.suspend(&mut tx, Actor::Operator, site_id).await?;
            sites.resume(&mut tx, Actor::Operator, site_id).await?;
            tx.commit().await
        };
        let before = disk.store.number("SELECT count(*) FROM audit_log").await;
        let answered = disk.answered(change).await;
        let made = disk.store.number("SELECT count(*) FROM audit_log").await - before;
        assert_eq!(made, 2 * answered);
    });
}

#[test]
fn tokens_that_are_answered_are_there() {
    on_a_small_disk("tokens_that_are_answered_are_there", async |disk| {
        let tokens = &disk.instance.tokens;
        let (site_id, _) = disk.instance.create_site().await;
        let draft = || tokens.draft(site_id, user(1), None);
        let plain = disk
            .answered(async || tokens.insert(&draft(), None).await)
            .await;
        let with_a_key = async || {
            let draft = draft();
            let key = Idempotency::new(&draft.token_id.to_string(), user(1), None);
            tokens.insert(&draft, Some(&key)).await
        };
        let with_keys = disk.answered(with_a_key).await;
        let written = disk.store.number("SELECT count(*) FROM tokens").await;
        assert_eq!(written, plain + with_keys);
    });
}

/// The driver asks for one row, and would not hear that its commit failed.
#[test]
fn calls_that_pass_are_counted() {
    on_a_small_disk("calls_that_pass_are_counted", async |disk| {
        let calls = plans(&[("plan", 1_000, 1_000)]);
        let ledger = ledger(&disk.store, disk.instance.database.clone(), calls);
        let site_id = new_site(&disk.store);
        let call = async || -> Result<(), QuotaError> {
            drop(ledger.reserve(site_id, "plan", 1).await?);
            Ok(())
        };
        let answered = disk.answered(call).await;
        let counted = crate::quota::ledger(
            &disk.store,
            disk.store.open().await,
            plans(&[("plan", 1_000, 1_000)]),
        );
        let (day, _) = used(&counted, site_id).await;
        assert_eq!(i64::try_from(day).unwrap(), answered);
    });
}
