//! A start-up archive for a kernel: a shell of this host that runs one script.
#![allow(
    unreachable_pub,
    clippy::expect_used,
    reason = "it is a part of tests, for short"
)]

use std::{collections::BTreeSet, fmt::Write, fs, path::Path, process::Command};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// A script for `/bin/sh`, which has nothing but its built-in commands, and files for it.
pub fn initrd(script: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.add("dev/console", CHARACTER_DEVICE, &[], [5, 1]);
    archive.add("dev/tty1", CHARACTER_DEVICE, &[], [4, 1]);
    let listed = Command::new("ldd").arg("/bin/sh").output();
    let listed = listed.expect("ldd is there (Debian: libc-bin)");
    let listed = String::from_utf8(listed.stdout).expect("ldd writes UTF-8");
    let libraries = listed.split_whitespace().filter(|it| it.starts_with('/'));
    for program in libraries.chain(["/bin/sh"]) {
        let bytes = fs::read(program).expect("programs can be read");
        archive.add(program.trim_start_matches('/'), PROGRAM, &bytes, [0, 0]);
    }
    for (name, text) in files {
        archive.add(name, FILE, text.as_bytes(), [0, 0]);
    }
    archive.add("init", PROGRAM, script.as_bytes(), [0, 0]);
    archive.entry("TRAILER!!!", 0, &[], [0, 0]);
    archive.bytes
}

/// The format `newc`, as cpio(5) and the kernel's `early-userspace/buffer-format` tell it.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    count: usize,
}

impl Archive {
    /// Adds a file after the folders above it.
    fn add(&mut self, name: &str, mode: u32, data: &[u8], device: [u32; 2]) {
        let above: Vec<&Path> = Path::new(name).ancestors().skip(1).collect();
        for folder in above.into_iter().rev() {
            let folder = folder.to_str().expect("names are UTF-8").to_owned();
            if !folder.is_empty() && self.folders.insert(folder.clone()) {
                self.entry(&folder, FOLDER, &[], [0, 0]);
            }
        }
        self.entry(name, mode, data, device);
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8], [major, minor]: [u32; 2]) {
        self.count += 1;
        let mut header = "070701".to_owned();
        let mode = mode as usize;
        let [major, minor] = [major, minor].map(|it| it as usize);
        let (size, name_size) = (data.len(), name.len() + 1);
        for field in [
            self.count, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0,
        ] {
            write!(header, "{field:08x}").expect("memory is there");
        }
        self.bytes.extend(header.bytes().chain(name.bytes()));
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
