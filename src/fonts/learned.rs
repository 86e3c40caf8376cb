//! Fonts that were learned from screens: where they lie, and how they come there.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{cells::Font, model::shell_word};

/// Larger than any font.
const MAX_READ: u64 = 4 << 20;

/// The folder of learned fonts below the data folder.
pub fn learned_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("fonts")
}

/// Where a learned font of this name lies.
pub fn learned_file(data_dir: &Path, name: &str) -> PathBuf {
    learned_folder(data_dir).join(format!("{name}.psf"))
}

/// Why a learned font cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("the font cannot be read from {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the folder {} cannot be made", path.display())]
    MakeFolder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the font cannot be written to {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl SaveError {
    /// What to do next.
    pub fn hint(&self) -> String {
        let (Self::Read { path, .. } | Self::MakeFolder { path, .. } | Self::Write { path, .. }) =
            self;
        let folder = path.parent().unwrap_or(path).to_string_lossy();
        format!(
            "Look at the folder with `ls -ld {}`, or choose another file with `--output`.",
            shell_word(&folder)
        )
    }
}

/// What a font's file holds, where there is one.
pub fn existing(path: &Path) -> Result<Option<Vec<u8>>, SaveError> {
    let read = File::open(path).and_then(|file| {
        let mut bytes = vec![];
        // More is refused when it is parsed.
        file.take(MAX_READ).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SaveError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes a font, whole or not at all: a server may read it meanwhile.
pub fn save(path: &Path, font: &Font) -> Result<(), SaveError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(|source| SaveError::MakeFolder {
        path: folder.to_owned(),
        source,
    })?;
    let written = temporary(folder, &font.to_psf())
        .and_then(|file| file.persist(path).map_err(|error| error.error));
    written.map(|_| ()).map_err(|source| SaveError::Write {
        path: path.to_owned(),
        source,
    })
}

fn temporary(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        // What the umask leaves of it, as of any new file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}
