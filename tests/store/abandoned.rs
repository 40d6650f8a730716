//! Calls that are given up half-way, by a caller who left or a deadline: what is done on their
//! connections afterwards is done for good.

use std::{
    future::poll_fn,
    pin::pin,
    task::Poll::{Pending, Ready},
    time::Duration,
};

use mirrory::{
    config::DatabaseKind,
    store::{
        Database, StoreError, Tx,
        changes::{self, Actor, Change},
        leases::claim,
    },
    tokens::TokenRecord,
    types::ids::SiteId,
};
use tokio::time::timeout;

use crate::{
    harness::{DAY, Instance, NOON, Store, machine, on_both_stores, user},
    quota::{ledger, new_site, plans, used},
};

on_both_stores!(
    a_beginning_that_is_given_up_leaves_no_transaction,
    a_statement_that_is_given_up_ends_its_transaction,
    a_commit_that_is_given_up_leaves_no_transaction,
    a_change_that_is_given_up_is_made_whole_or_not_at_all,
    a_plain_statement_that_is_given_up_leaves_no_transaction,
    a_batch_that_is_given_up_is_done_all_the_same,
    after_a_refused_statement_a_transaction_can_only_be_undone,
    what_is_given_up_or_undone_costs_no_connection,
);

/// More than any call here takes.
const MOST_POLLS: usize = 500;

/// What a call answers within so many polls, if it does.
async fn polled<T>(call: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut call = pin!(call);
    let mut left = polls;
    poll_fn(|context| {
        left -= 1;
        match call.as_mut().poll(context) {
            Ready(answer) => Ready(Some(answer)),
            Pending if left == 0 => Ready(None),
            Pending => Pending,
        }
    })
    .await
}

/// An instance whose next call is made on the connection of the one before it, if that is used again.
struct Bench {
    store: Store,
    instance: Instance,
    /// What others see.
    other: Instance,
    site_id: SiteId,
}

impl Bench {
    async fn over(mut store: Store) -> Self {
        store.config.database.max_connections = 1;
        let [instance, other] = [store.instance().await, store.instance().await];
        let (site_id, _) = instance.create_site().await;
        let bench = Self {
            store,
            instance,
            other,
            site_id,
        };
        // Else the first call would be given up while it waits for the connection.
        bench.is_sound().await;
        bench
    }

    fn database(&self) -> &Database {
        &self.instance.database
    }

    /// Gives a call up after each number of polls, until one is answered.
    async fn give_up<T>(&self, call: impl AsyncFn() -> Result<T, StoreError>) {
        for polls in 1..MOST_POLLS {
            let answer = polled(call(), polls).await.map(Result::unwrap);
            let is_answered = answer.is_some();
            drop(answer);
            self.is_sound().await;
            if is_answered {
                return;
            }
        }
        panic!("it is never answered");
    }

    /// What is answered now is there for others, and nothing is left open.
    async fn is_sound(&self) {
        let token_id = self.instance.issue(self.site_id).await.token_id;
        let found = self.other.tokens.find(token_id).await.unwrap();
        assert!(found.is_some(), "an answered token");
        let before = self.seq().await;
        self.change().await.unwrap();
        assert_eq!(self.seq().await, before + 1, "an answered change");
        assert_eq!(self.end().await, before + 1, "what is read");
        let holder = self.store.randomness.uuid_v7(NOON);
        let work = holder.to_string();
        assert!(
            claim(self.database(), &work, holder, NOON, NOON.after(DAY))
                .await
                .unwrap()
        );
        let claimed = format!("SELECT count(*) FROM leases WHERE name = '{work}'");
        assert_eq!(self.store.number(&claimed).await, 1, "an answered claim");
        self.until_nothing_is_open().await;
    }

    async fn until_nothing_is_open(&self) {
        if self.store.kind() == DatabaseKind::Sqlite {
            // It would fail while another writes.
            return self
                .store
                .execute("BEGIN IMMEDIATE; ROLLBACK")
                .await
                .unwrap();
        }
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND pid <> pg_backend_pid() AND xact_start IS NOT NULL \
                    AND backend_type = 'client backend'";
        let ended = async {
            while self.store.number(open).await > 0 {
                tokio::task::yield_now().await;
            }
        };
        let ended = timeout(Duration::from_secs(5), ended).await;
        ended.expect("no transaction is left open");
    }

    /// Makes a change, in a transaction of its own.
    async fn change(&self) -> Result<(), StoreError> {
        let mut tx = self.database().begin().await?;
        self.change_in(&mut tx).await?;
        tx.commit().await
    }

    async fn change_in(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let token_id = self.draft().token_id;
        let change = Change::TokenRevoked(token_id, self.site_id);
        let by = Actor::Operator.into();
        changes::record(tx, &by, &change, NOON, &self.store.randomness).await
    }

    fn draft(&self) -> TokenRecord {
        self.instance.tokens.draft(self.site_id, user(1), None)
    }

    async fn tokens(&self) -> i64 {
        self.store.number("SELECT count(*) FROM tokens").await
    }

    /// The number of the newest change, for others.
    async fn seq(&self) -> i64 {
        self.store.number("SELECT max(seq) FROM changes").await
    }

    async fn end(&self) -> i64 {
        changes::end(self.database()).await.unwrap().seq
    }
}

async fn a_beginning_that_is_given_up_leaves_no_transaction(store: Store) {
    let bench = Bench::over(store).await;
    bench.give_up(async || bench.database().begin().await).await;
}

async fn a_statement_that_is_given_up_ends_its_transaction(store: Store) {
    let bench = Bench::over(store).await;
    for polls in 1..MOST_POLLS {
        let before = bench.seq().await;
        let mut tx = bench.database().begin().await.unwrap();
        let answer = polled(bench.change_in(&mut tx), polls).await;
        if answer.is_some() {
            return;
        }
        assert!(bench.change_in(&mut tx).await.is_err());
        assert!(tx.commit().await.is_err());
        bench.until_nothing_is_open().await;
        assert_eq!(bench.seq().await, before, "nothing of it is done");
        bench.is_sound().await;
    }
    panic!("it is never answered");
}

async fn a_commit_that_is_given_up_leaves_no_transaction(store: Store) {
    let bench = Bench::over(store).await;
    for polls in 1..MOST_POLLS {
        let before = bench.seq().await;
        let mut tx = bench.database().begin().await.unwrap();
        bench.change_in(&mut tx).await.unwrap();
        let answer = polled(tx.commit(), polls).await;
        bench.until_nothing_is_open().await;
        let made = bench.seq().await - before;
        if let Some(answer) = answer {
            answer.unwrap();
            assert_eq!(made, 1);
            return;
        }
        assert!(made <= 1, "the outcome is unknown, and whole");
        bench.is_sound().await;
    }
    panic!("it is never answered");
}

async fn a_change_that_is_given_up_is_made_whole_or_not_at_all(store: Store) {
    let bench = Bench::over(store).await;
    bench.give_up(async || bench.change().await).await;
    bench.until_nothing_is_open().await;
    let halves = "SELECT count(*) FROM changes \
                  WHERE seq > (SELECT seq FROM change_counter WHERE id = 1)";
    assert_eq!(bench.store.number(halves).await, 0);
    let (changes, audited) = (
        bench.store.number("SELECT count(*) FROM changes").await,
        bench.store.number("SELECT count(*) FROM audit_log").await,
    );
    assert_eq!(changes, audited);
}

async fn a_plain_statement_that_is_given_up_leaves_no_transaction(store: Store) {
    let bench = Bench::over(store).await;
    let database = bench.database();
    bench.give_up(async || database.now().await).await;
    bench.give_up(async || changes::end(database).await).await;
    let holder = bench.store.randomness.uuid_v7(NOON);
    let claiming = async || claim(database, "work", holder, NOON, NOON.after(DAY)).await;
    bench.give_up(claiming).await;

    let calls = plans(&[("plan", 1_000, 1_000)]);
    let ledger = ledger(&bench.store, database.clone(), calls.clone());
    let site_id = new_site(&bench.store);
    for polls in 1..MOST_POLLS {
        let taken = polled(ledger.reserve(site_id, "plan", 1), polls).await;
        bench.is_sound().await;
        if let Some(permit) = taken {
            drop(permit.unwrap());
            let counted = crate::quota::ledger(&bench.store, bench.other.database.clone(), calls);
            assert!(used(&counted, site_id).await.0 >= 1, "an answered call");
            return;
        }
    }
    panic!("it is never answered");
}

async fn a_batch_that_is_given_up_is_done_all_the_same(store: Store) {
    let bench = Bench::over(store).await;
    let tokens = &bench.instance.tokens;
    let inserting = async || {
        let draft = bench.draft();
        tokens.insert(&draft, None).await?;
        let found = bench.other.tokens.find(draft.token_id).await?;
        assert!(found.is_some(), "an answered token");
        Ok(())
    };
    bench.give_up(inserting).await;
    let machine_id = machine("m");
    let binding = async || {
        let token_id = bench.instance.issue(bench.site_id).await.token_id;
        let claims = bench.other.claims(token_id).await;
        bench.instance.binds(claims, &machine_id).await?;
        let found = bench.other.tokens.find(token_id).await?;
        let bound = &found.unwrap().record.machine_id;
        assert_eq!(bound.as_ref(), Some(&machine_id), "an answered binding");
        Ok(())
    };
    bench.give_up(binding).await;

    let before = bench.tokens().await;
    let draft = bench.draft();
    assert!(polled(tokens.insert(&draft, None), 1).await.is_none());
    let inserted = async {
        while bench.tokens().await == before {
            tokio::task::yield_now().await;
        }
    };
    let inserted = timeout(Duration::from_secs(5), inserted).await;
    inserted.expect("it is done without its caller");
}

async fn after_a_refused_statement_a_transaction_can_only_be_undone(store: Store) {
    let bench = Bench::over(store).await;
    let before = bench.seq().await;
    let away = "ALTER TABLE audit_log RENAME TO elsewhere";
    bench.store.execute(away).await.unwrap();
    let mut tx = bench.database().begin().await.unwrap();
    changes::lock(&mut tx).await.unwrap();
    // It is in the log of changes by then.
    assert!(bench.change_in(&mut tx).await.is_err());
    assert!(bench.change_in(&mut tx).await.is_err());
    assert!(tx.commit().await.is_err(), "not all of it was done");
    bench.until_nothing_is_open().await;
    assert_eq!(bench.seq().await, before);
    let back = "ALTER TABLE elsewhere RENAME TO audit_log";
    bench.store.execute(back).await.unwrap();
    bench.is_sound().await;
}

/// Callers who leave and changes that are refused are common, and connecting is dear.
async fn what_is_given_up_or_undone_costs_no_connection(store: Store) {
    let bench = Bench::over(store).await;
    if bench.store.kind() == DatabaseKind::Sqlite {
        return;
    }
    let session = "SELECT min(pid)::bigint FROM pg_stat_activity \
                   WHERE datname = current_database() AND application_name = 'mirrory'";
    bench.other.database.close().await;
    let before = bench.store.number(session).await;
    for _ in 0..10 {
        let mut tx = bench.database().begin().await.unwrap();
        bench.change_in(&mut tx).await.unwrap();
        drop(tx);
        drop(bench.database().begin().await.unwrap());
    }
    for polls in 1..10 {
        let _given_up = polled(bench.change(), polls).await;
        let _given_up = polled(bench.database().now(), polls).await;
    }
    bench.database().now().await.unwrap();
    assert_eq!(bench.store.number(session).await, before);
}
