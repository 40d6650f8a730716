//! Prometheus' own tool, which `tests/run` finds or fetches.

use std::{
    env,
    ffi::OsString,
    io::Write,
    process::{Command, Stdio},
};

/// Runs a check that must pass, with this on its input.
pub fn accepts(arguments: &[&str], input: &str) {
    let tool = env::var_os("MIRRORY_TESTS_PROMTOOL").unwrap_or_else(|| OsString::from("promtool"));
    let mut command = Command::new(tool);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = command
        .spawn()
        .expect("promtool is there, or MIRRORY_TESTS_PROMTOOL names it: tests/run sees to it");
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let done = running.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(done.status.success(), "{arguments:?} {said}\n{input}");
}
