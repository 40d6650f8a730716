//! How long moving house takes: `cargo bench --bench move` fills a store of each kind with a million
//! tokens, exports it and imports that into an empty one of the other kind, by the program, and
//! prints the times and rows a second. `-- 100000` after it moves so many instead.

#[path = "load/fill.rs"]
mod fill;
#[path = "../tests/support/postgres.rs"]
mod postgres;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use mirrory::types::clock::Clock;

use self::postgres::Cluster;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mirrory");
const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TOKENS: u32 = 1_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` starts it too.
        println!("measures nothing but by `cargo bench --bench move`");
        return ExitCode::SUCCESS;
    }
    let tokens = arguments.iter().find_map(|argument| argument.parse().ok());
    let folder = env::temp_dir().join(format!("mirrory-move-{}", std::process::id()));
    let outcome = run(&folder, tokens.unwrap_or(TOKENS));
    let _is_left = fs::remove_dir_all(&folder);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("move: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path, tokens: u32) -> Outcome<()> {
    fs::create_dir(folder)?;
    let cluster = Cluster::start_durable();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let embedded = |name: &str| format!("sqlite://{}/{name}/mirrory.db", folder.display());
    let database = || runtime.block_on(cluster.create_database());

    let [from, to] = [embedded("from"), database()];
    mirrory(&from, &["migrate"])?;
    runtime.block_on(fill::sqlite(&from, tokens))?;
    let sqlite_to_postgres = measure(folder, &from, &to)?;

    let [from, to] = [database(), embedded("to")];
    mirrory(&from, &["migrate"])?;
    runtime.block_on(fill::postgres(&from, tokens))?;
    let postgres_to_sqlite = measure(folder, &from, &to)?;

    println!("{tokens} tokens and their sites; the program, with fsync on and synchronous = FULL");
    for (way, figures) in [
        ("SQLite to PostgreSQL", sqlite_to_postgres),
        ("PostgreSQL to SQLite", postgres_to_sqlite),
    ] {
        println!("{way}: {:.0} MiB", figures.mebibytes);
        for (step, took) in ["export", "import", "import again"]
            .iter()
            .zip(figures.took)
        {
            let rate = f64::from(tokens) / took.as_secs_f64();
            println!(
                "  {step:12} {:6.1} s {rate:8.0} tokens/s",
                took.as_secs_f64()
            );
        }
    }
    Ok(())
}

struct Figures {
    mebibytes: f64,
    took: [Duration; 3],
}

/// Moves a store: out, in, and in once more, as after an import that was cut off at its end.
fn measure(folder: &Path, from: &str, to: &str) -> Outcome<Figures> {
    let file: PathBuf = folder.join("house.ndjson");
    let name = file.to_string_lossy();
    mirrory(to, &["migrate"])?;
    let export = mirrory(from, &["export", "--output", &name])?;
    let import = mirrory(to, &["import", &name])?;
    let again = mirrory(to, &["import", &name])?;
    let kibibytes = u32::try_from(fs::metadata(&file)?.len() >> 10)?;
    // The next export would not replace it.
    fs::remove_file(&file)?;
    Ok(Figures {
        mebibytes: f64::from(kibibytes) / 1024.0,
        took: [export, import, again],
    })
}

/// Runs a command of the program on a store; how long that took.
fn mirrory(database_url: &str, arguments: &[&str]) -> Outcome<Duration> {
    let clock = Clock::system();
    let status = Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", database_url)
        .env("MIRRORY__SECRETS__MASTER_KEY", MASTER_KEY)
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("{arguments:?} failed").into());
    }
    Ok(clock
        .monotonic()
        .since(mirrory::types::clock::Monotonic::default()))
}
