//! `mirrory doctor`

use std::process::ExitCode;

use super::{
    Context,
    output::{Answer, Failure},
};
use crate::{
    config::ConfigError,
    doctor::{Check, Status, examine},
    error::Chain,
};

pub(super) async fn run(context: &Context) -> Result<Answer, Failure> {
    let Context {
        config,
        clock,
        randomness,
        ..
    } = context;
    report(&examine(config, clock, randomness).await)
}

/// What there is to say when the configuration cannot be read.
pub(super) fn without_configuration(error: &ConfigError) -> Result<Answer, Failure> {
    report(&[Check::of_bad_configuration(Chain(error).to_string())])
}

fn report(checks: &[Check]) -> Result<Answer, Failure> {
    let lines: Vec<_> = checks.iter().map(line).collect();
    let has_failed = checks.iter().any(|check| check.status == Status::Failed);
    let code = if has_failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    };
    let document = serde_json::to_value(checks)?;
    Ok(Answer::Verdict(lines.join("\n"), document, code))
}

fn line(check: &Check) -> String {
    let status = match check.status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Failed => "FAILED",
    };
    let line = format!("{status:8} {:16} {}", check.check, check.detail);
    match &check.advice {
        Some(advice) => format!("{line}\n{:25} -> {advice}", ""),
        None => line,
    }
}
