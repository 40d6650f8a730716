//! PostgreSQL's own bench as a peer: a transaction a row, into a table like the service's.

use std::{fs, path::PathBuf, time::Duration};

use crate::{Outcome, bench::Bench, generator::Tally, machine::Cores, measure::Plan};

/// The columns that the service writes. Its ids sort by time; on a table of this size random ones
/// cost no more, and to make others here would cost pgbench some of its rate.
const SCRIPT: &str = r"\set user_id random(10000, 99999)
INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at)
VALUES (gen_random_uuid(), '019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d', :user_id, 200,
        1800000000000000, 1800086400000000);
";

/// A run of pgbench. It gets the server's core, and PostgreSQL has the others for itself: here it
/// is faster so than when both may run everywhere.
pub struct Pgbench {
    program: PathBuf,
    script: PathBuf,
    database_url: String,
    cores: Cores,
}

impl Pgbench {
    /// Readies it for a database that has the service's tables.
    pub fn new(bench: &Bench, database_url: &str) -> Outcome<Self> {
        // Where PostgreSQL's programs lie; links to them may lie elsewhere.
        let postgres = bench.cluster.program("postgres").canonicalize()?;
        let script = bench.folder.path().join("insert.sql");
        fs::write(&script, SCRIPT)?;
        Ok(Self {
            program: postgres.with_file_name("pgbench"),
            script,
            database_url: database_url.to_owned(),
            cores: bench.cores.clone(),
        })
    }

    /// Runs it for a turn.
    pub fn run(&self, plan: &Plan) -> Outcome<Tally> {
        let clients = plan.connections.to_string();
        let seconds = plan.duration.as_secs().to_string();
        let output = self
            .cores
            .server(&self.program)
            .args([
                "-n", "-M", "prepared", "-c", &clients, "-j", "1", "-T", &seconds, "-f",
            ])
            .args([self.script.as_os_str(), self.database_url.as_ref()])
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("pgbench failed: {said}").into());
        }
        read(&String::from_utf8(output.stdout)?)
    }
}

fn read(report: &str) -> Outcome<Tally> {
    let value = |name: &str| -> Outcome<f64> {
        let line = report.lines().find_map(|line| line.strip_prefix(name));
        let text = line.and_then(|line| line.split_whitespace().next());
        Ok(text.ok_or("an unknown report of pgbench")?.parse()?)
    };
    let transactions = value("number of transactions actually processed:")?;
    let rate = value("tps =")?;
    let count = format!("{transactions:.0}").parse()?;
    Ok(Tally {
        sent: count,
        right: count,
        elapsed: Duration::from_secs_f64(transactions / rate),
        ..Tally::default()
    })
}
