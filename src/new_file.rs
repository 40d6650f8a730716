//! Files that are seen whole or not at all.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

/// A file that is written under another name beside its own, for its owner alone, and has its own when
/// it is finished; dropped before, it is gone.
pub(crate) struct NewFile {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    may_replace: bool,
    is_finished: bool,
}

impl NewFile {
    /// Begins the file that is to be at `path`, where nothing may be.
    pub(crate) fn create_new(path: &Path) -> io::Result<Self> {
        // Also a link that leads nowhere.
        if path.symlink_metadata().is_ok() {
            return Err(occupied());
        }
        let mut file = Self::replace(path)?;
        file.may_replace = false;
        Ok(file)
    }

    /// Begins the file that is to be at `path`, in the place of what is there.
    pub(crate) fn replace(path: &Path) -> io::Result<Self> {
        let mut unfinished = OsString::from(path);
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        // Left by one that was cut off.
        if unfinished.exists() {
            fs::remove_file(&unfinished)?;
        }
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600);
        let file = file.open(&unfinished)?;
        // Written by root, it is still for whom the one before was.
        if let Ok(before) = path.metadata() {
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        Ok(Self {
            file,
            unfinished,
            path: path.to_owned(),
            may_replace: true,
            is_finished: false,
        })
    }

    /// Puts it in its place; it is there after a power cut, too.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.may_replace {
            fs::rename(&self.unfinished, &self.path)?;
            self.is_finished = true;
        } else {
            fs::hard_link(&self.unfinished, &self.path).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => occupied(),
                _ => error,
            })?;
        }
        let folder = self.path.parent();
        match folder.filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => File::open(".")?.sync_all(),
        }
    }
}

fn occupied() -> io::Error {
    let problem = "something is there, and is not replaced: move it away, or choose another name";
    io::Error::new(io::ErrorKind::AlreadyExists, problem)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_into_its_place_meanwhile_is_left_there() {
        let path = std::env::temp_dir().join(format!("mirrory-new-file-{}", std::process::id()));
        let mut file = NewFile::create_new(&path).unwrap();
        file.write_all(b"new").unwrap();
        fs::write(&path, "another").unwrap();
        let refused = file.finish().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_replaces_a_file_is_for_whom_that_was() {
        let path = std::env::temp_dir().join(format!("mirrory-replaced-{}", std::process::id()));
        fs::write(&path, "old").unwrap();
        // Only root can give a file away, and only then can it come back to another.
        let _is_given = std::os::unix::fs::chown(&path, Some(65_534), Some(65_534));
        let owner = path.metadata().unwrap().uid();
        let mut file = NewFile::replace(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(path.metadata().unwrap().uid(), owner);
        fs::remove_file(&path).unwrap();
    }
}
