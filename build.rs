//! Builds again when a migration was added: `sqlx::migrate!` reads the folders unseen by cargo.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
