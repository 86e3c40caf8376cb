//! Reading small files that the configuration names, and that may be anything.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// Reads a regular file of at most `most` bytes. A FIFO would hang, and a device may have no end.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    let metadata = fs::metadata(path)?;
    if is_null(&metadata) {
        return Ok(Vec::new());
    }
    if !metadata.is_file() {
        return Err(unfit("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(unfit(format!("it is larger than {} MiB", most >> 20)));
    }
    Ok(bytes)
}

/// Whether it is /dev/null, which many put in the place of a file that is to be empty.
fn is_null(metadata: &fs::Metadata) -> bool {
    let null = fs::metadata("/dev/null");
    null.is_ok_and(|null| {
        !metadata.is_file() && !metadata.is_dir() && null.rdev() == metadata.rdev()
    })
}

fn unfit(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command};

    use super::*;

    #[test]
    fn reads_small_regular_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("small"), vec![b'x'; 1 << 20]).unwrap();
        fs::write(at("large"), vec![b'x'; (1 << 20) + 1]).unwrap();
        symlink("small", at("link")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        let fifo = Command::new("mkfifo").arg(at("fifo")).status().unwrap();
        assert!(fifo.success());
        let special = Err("it is no regular file".to_owned());
        let table = [
            (at("small"), Ok(1 << 20)),
            (at("link"), Ok(1 << 20)),
            (at("null"), Ok(0)),
            (at("large"), Err("it is larger than 1 MiB".to_owned())),
            (at("fifo"), special.clone()),
            ("/dev/zero".into(), special.clone()),
            (folder.path().to_owned(), special),
        ];
        for (path, expected) in table {
            let read = read(&path, 1 << 20)
                .map(|bytes| bytes.len())
                .map_err(|error| error.to_string());
            assert_eq!(read, expected, "{}", path.display());
        }
        let missing = read(&at("missing"), 1).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
