//! `wrk`, a load generator in C that looks at nothing but the status.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::{Outcome, generator::Load, measure::median, requests::Endpoint};

/// Of `wrk`'s rate on the bare server, what our generator must reach.
pub const LEAST_SHARE: f64 = 0.95;

/// Short turns and many, so that a machine with other work to do troubles both alike.
const TURN: Duration = Duration::from_secs(1);
const PAIRS: u32 = 9;

/// What a load of validations reaches of `wrk`'s rate, the median of pairs; none when there is no
/// `wrk`.
pub async fn compare(load: &Load, folder: &Path) -> Outcome<Option<f64>> {
    let script = folder.join("validate.lua");
    fs::write(&script, lua(&load.requests[0])?)?;
    let path = Endpoint::Validate.path();
    let mut wrk = Command::new("wrk");
    wrk.args(["-t", "1", "-c", &load.connections.to_string()])
        .args(["-d", &format!("{}s", TURN.as_secs()), "-s"])
        .arg(&script)
        .arg(format!("http://{}{path}", load.address));
    let mut shares = Vec::new();
    for _ in 0..=PAIRS {
        let Ok(output) = wrk.output() else {
            return Ok(None);
        };
        let its = rate_in(&String::from_utf8(output.stdout)?)?;
        shares.push(load.run_for(TURN).await?.rate() / its);
    }
    // The first pair warms the server up.
    Ok(Some(median(shares.into_iter().skip(1))))
}

/// One request that never changes: `wrk` is at its fastest then.
fn lua(request: &[u8]) -> Outcome<String> {
    let request = std::str::from_utf8(request)?;
    let (_, body) = request
        .split_once("\r\n\r\n")
        .ok_or("a request without a body")?;
    Ok(format!(
        "wrk.method = \"POST\"\nwrk.headers[\"content-type\"] = \"application/json\"\n\
         wrk.body = [[{body}]]\n"
    ))
}

fn rate_in(report: &str) -> Outcome<f64> {
    if report.contains("Non-2xx") || report.contains("Socket errors") {
        return Err(format!("wrk met errors:\n{report}").into());
    }
    let line = report
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    Ok(line.ok_or("wrk says no rate")?.trim().parse()?)
}
