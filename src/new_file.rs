//! Files that are seen whole or not at all.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file that is written under another name beside its own, for its owner alone. It takes the place
/// of what had its name when it is finished; dropped before, it is gone.
pub(crate) struct NewFile {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    is_finished: bool,
}

impl NewFile {
    /// Begins the file that is to be at `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut unfinished = OsString::from(path);
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        // Left by one that was cut off.
        if unfinished.exists() {
            fs::remove_file(&unfinished)?;
        }
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600);
        Ok(Self {
            file: file.open(&unfinished)?,
            unfinished,
            path: path.to_owned(),
            is_finished: false,
        })
    }

    /// Puts it in its place; it is there after a power cut, too.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.unfinished, &self.path)?;
        self.is_finished = true;
        let folder = self.path.parent();
        match folder.filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => File::open(".")?.sync_all(),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // What fails here fails for the reason that left it unfinished, which is told.
            let _is_left = fs::remove_file(&self.unfinished);
        }
    }
}
