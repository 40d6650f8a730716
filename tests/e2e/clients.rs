//! The documented examples by the clients that people have: curl, Python, Node, Ruby. `tests/run`
//! finds or installs them.

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use crate::{harness::Place, server::Server};

const EMAIL: &str = "ada@shop.example";
const PASSWORD: &str = "correct horse battery";

/// A server with an account, and the proxy secret of a site.
async fn open() -> (Place, Server, String) {
    let place = Place::sqlite().with("MIRRORY__TOKENS__ALGORITHM", "ES256");
    let server = place.start().await;
    let site = place.create_site("developer");
    let password = place.work().join("password");
    fs::write(&password, PASSWORD).unwrap();
    let create = ["account", "create", "--email", EMAIL, "--username", "ada"];
    let mut command = place.program(create);
    command.arg("--password-stdin");
    command.stdin(Stdio::from(File::open(password).unwrap()));
    let done = place.finish(command);
    assert_eq!(done.code, Some(0), "{done:?}");
    (place, server, site.secret)
}

/// Runs a script of `tests/e2e/clients` with this program.
async fn runs(program: &str, script: &str) {
    let (place, server, proxy_secret) = open().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = env::var("CARGO_MANIFEST_DIR").map_or(folder.to_owned(), Into::into);
    let mut command = Command::new(program);
    command
        .arg(folder.join("tests/e2e/clients").join(script))
        .env("BASE", format!("http://{}", server.address))
        .env("EMAIL", EMAIL)
        .env("LOGIN", "ada")
        .env("PASSWORD", PASSWORD)
        .env("PROXY_SECRET", proxy_secret)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "127.0.0.1")
        .current_dir(place.work())
        .stdin(Stdio::null());
    let running = tokio::task::spawn_blocking(move || command.output());
    let output = running.await.unwrap();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see tests/run"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {script}: {stderr}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_signs_in_as_the_documentation_prints_it() {
    runs("bash", "client.sh").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_signs_in_with_two_factor_and_checks_a_desktop_token() {
    let python = env::var("MIRRORY_TESTS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    runs(&python, "client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sees_why_a_large_body_is_refused_and_goes_on() {
    let python = env::var("MIRRORY_TESTS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    runs(&python, "refused.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_signs_in_by_fetch() {
    runs("node", "client.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ruby_signs_in_by_net_http() {
    runs("ruby", "client.rb").await;
}
