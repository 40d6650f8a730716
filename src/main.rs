//! The program `mirrory`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mirrory::cli::run()
}
