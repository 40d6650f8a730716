//! A disk that is soon full: a small one in memory, that only one process and those that it starts can
//! see. It is gone with the last of them, however they end.
#![allow(clippy::unwrap_used, reason = "without its disk a test fails at once")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

const ON_A_DISK: &str = r#"mount -t tmpfs -o "size=$0,mode=700" tmpfs "$1" && shift && exec "$@""#;

/// A command that runs `program` where a new disk of `size` is at `folder`. Arguments may be added.
pub fn command(size: &str, folder: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", ON_A_DISK, size]);
    command.arg(folder).arg(program);
    command
}

/// Whether there can be such a disk: only root can have one, and not in every container. Says so where
/// there is none.
pub fn can_be_had(folder: &Path) -> bool {
    let tried = command("1m", folder, "true").output();
    let can = tried.is_ok_and(|tried| tried.status.success());
    if !can {
        println!("skipped: without the right to mount there is no disk to fill");
    }
    can
}

fn filler(folder: &Path) -> PathBuf {
    folder.join("filler")
}

/// Leaves no room on the disk.
pub fn fill(folder: &Path) {
    let mut filler = File::create(filler(folder)).unwrap();
    for piece in [vec![0; 4096], vec![0]] {
        let error = loop {
            if let Err(error) = filler.write_all(&piece) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }
}

/// Makes the room again.
pub fn free(folder: &Path) {
    fs::remove_file(filler(folder)).unwrap();
}
