//! Old records removed from a large store while others are validated and issued, every one with an
//! idempotency key; and what that leaves behind.

use std::{net::Ipv4Addr, time::Duration};

use mirrory::types::clock::Clock;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    Outcome,
    bench::Bench,
    fill::{self, DAY_MICROS, OLDEST_DAYS},
    measure::Contender,
    paced::{Pace, Paced},
    removal::Removal,
    report::Goal,
    requests::{self, Endpoint},
    retained,
};

const PARTITIONS: u32 = 12;

/// The last partition is the one of now, too.
const HOUR_MICROS: i64 = 3_600_000_000;

const ISSUING: Pace = Pace {
    rate: 1_000,
    first: Ipv4Addr::new(127, 0, 4, 1),
    addresses: 60,
};
const ISSUED: &[&[u8]] = &[Endpoint::Generate.expects()];

/// In so many steps every key is replaced, which is a day; after each, as many rows are dead as let
/// PostgreSQL clean a table up.
const STEPS: u32 = 20;

const MOST_P99: f64 = 1.15;
const MOST_GROWTH: f64 = 1.15;

const REPLACE_KEYS: &str = "
    INSERT INTO idempotency_keys (site_id, key_digest, request_digest, token_id, created_at)
    SELECT md5('site' || number % 10000)::uuid, sha256(uuid_send(gen_random_uuid())), sha256(''),
           gen_random_uuid(), $2
    FROM generate_series(1, $1) AS number";

pub async fn measure(bench: &mut Bench) -> Outcome<()> {
    let records = bench.options.records();
    let service = bench.on_postgres().await;
    let url = service.database_url.clone();
    service.migrate()?;
    retained::partitions(&url, PARTITIONS, HOUR_MICROS).await?;
    let span = Duration::from_micros((OLDEST_DAYS * DAY_MICROS).cast_unsigned()) / PARTITIONS;
    let first = Clock::system().now().before(span * PARTITIONS);
    fill::postgres(&url, records).await?;
    retained::keys(&url).await?;
    let removal = Removal::of(&url, first, span).await?;
    let instance = bench.start(&service).await?;
    let before = Sizes::of(&url).await?;

    let server = &instance.server;
    let turns = 3 * (bench.plan.rounds + 1);
    let seconds = u32::try_from(bench.plan.duration.as_secs() + 2)?;
    let issuing = requests::generate_with_keys(&instance.sites, turns * seconds * ISSUING.rate);
    let issuing = Paced::new(server.address, ISSUING, issuing, ISSUED);
    let validate = requests::validate(&instance.tokens);
    let load = bench.load(server, Endpoint::Validate, validate);
    let removing = |name, removal| {
        Contender::removing(name, server, load.clone(), issuing.clone(), removal).on_postgres()
    };
    let contenders = [
        Contender::beside("keeping", server, load.clone(), issuing.clone()).on_postgres()?,
        removing("removing keys", removal.of_keys())?,
        removing("removing keys and a partition", removal.clone())?,
    ];
    let title = format!("{records} records, 1,000 new ones a second: validate, PostgreSQL");
    let [keeping, keys, all] = bench.compare(&title, &contenders).await?;
    println!("{issuing}");
    let turn = bench.plan.duration.as_secs();
    for (series, what) in [
        (
            &keys,
            "keys are removed as fast as the janitor does".to_owned(),
        ),
        (&all, format!("a partition is, too, once in {turn} s")),
    ] {
        let ratio = series.ratio_to(&keeping, |sample| sample.p99);
        let name = format!("validate while {what}, of its p99");
        bench
            .report
            .add_of(series, name, ratio, Goal::Most(MOST_P99));
    }
    before.tell("before");
    Sizes::of(&url).await?.tell("after the partitions are gone");
    drop(instance);

    let replaced = replace_keys(&url, &removal, records).await?;
    replaced.tell("after every key was replaced");
    let growth = before.keys_growth(&replaced);
    let name = "idempotency keys, size after every one was replaced, of before";
    bench.report.add(name, growth, Goal::Most(MOST_GROWTH));
    Ok(())
}

/// Issues as many keys as are removed, and cleans up when PostgreSQL would.
async fn replace_keys(url: &str, removal: &Removal, records: u32) -> Outcome<Sizes> {
    let mut connection = PgConnection::connect(url).await?;
    for _ in 0..STEPS {
        sqlx::query(REPLACE_KEYS)
            .bind(i64::from(records / STEPS))
            .bind(Clock::system().now())
            .execute(&mut connection)
            .await?;
        removal.remove_keys(u64::from(records / STEPS)).await?;
        sqlx::raw_sql("VACUUM idempotency_keys")
            .execute(&mut connection)
            .await?;
    }
    connection.close().await?;
    Sizes::of(url).await
}

/// How much of the disk is taken, in bytes.
struct Sizes {
    tokens: Size,
    keys: Size,
}

struct Size {
    rows: i64,
    table: i64,
    indexes: i64,
}

impl Sizes {
    async fn of(url: &str) -> Outcome<Self> {
        let mut connection = PgConnection::connect(url).await?;
        let tokens = Size::of(&mut connection, "tokens").await?;
        let keys = Size::of(&mut connection, "idempotency_keys").await?;
        connection.close().await?;
        Ok(Self { tokens, keys })
    }

    fn tell(&self, when: &str) {
        for (name, size) in [("records", &self.tokens), ("keys", &self.keys)] {
            let Size {
                rows,
                table,
                indexes,
            } = size;
            let [table, indexes] = [table, indexes].map(|bytes| bytes / (1 << 20));
            println!("{when}: {rows} {name}, {table} MiB of rows, {indexes} MiB of indexes");
        }
    }

    /// The size of a key, of what it was.
    #[expect(clippy::cast_precision_loss, reason = "sizes of no such number")]
    fn keys_growth(&self, later: &Self) -> f64 {
        let each = |keys: &Size| (keys.table + keys.indexes) as f64 / keys.rows as f64;
        each(&later.keys) / each(&self.keys)
    }
}

impl Size {
    async fn of(connection: &mut PgConnection, table: &str) -> Outcome<Self> {
        let sizes = format!(
            "SELECT (SELECT count(*) FROM {table}), sum(pg_table_size(relid))::bigint, \
             sum(pg_indexes_size(relid))::bigint \
             FROM (SELECT relid FROM pg_partition_tree('{table}') UNION \
               SELECT '{table}'::regclass) AS parts"
        );
        let (rows, table, indexes) = sqlx::query_as(AssertSqlSafe(sizes))
            .fetch_one(connection)
            .await?;
        Ok(Self {
            rows,
            table,
            indexes,
        })
    }
}
