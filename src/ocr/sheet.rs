//! What Tesseract is given and what it gives: strips as the pages of one TIFF, and words as TSV.

/// Kinds of a TIFF's values: of 16 bits and of 32.
const SHORT: u16 = 3;
const LONG: u16 = 4;

/// The pages of a TIFF 6.0 file, 8-bit grey without compression.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    bytes: Vec<u8>,
    /// Where the place of the next page's directory is to be written.
    link: usize,
}

impl Sheet {
    pub(super) fn new() -> Self {
        // Little-endian, 42, and the place of the first directory.
        Self {
            bytes: b"II\x2a\0\0\0\0\0".to_vec(),
            link: 4,
        }
    }

    /// Adds a page; `grey` has `width` × `height` pixels.
    pub(super) fn page(&mut self, width: u32, height: u32, grey: &[u8]) {
        let pixels = self.place();
        self.bytes.extend_from_slice(grey);
        if !self.bytes.len().is_multiple_of(2) {
            self.bytes.push(0);
        }
        let directory = self.place();
        self.bytes[self.link..self.link + 4].copy_from_slice(&directory.to_le_bytes());
        // Width, height, bits, no compression, 0 is black, pixels' place, samples, rows in it, its length.
        let entries = [
            (256_u16, LONG, width),
            (257, LONG, height),
            (258, SHORT, 8),
            (259, SHORT, 1),
            (262, SHORT, 1),
            (273, LONG, pixels),
            (277, SHORT, 1),
            (278, LONG, height),
            (279, LONG, width * height),
        ];
        self.bytes.extend(9_u16.to_le_bytes());
        for (tag, kind, value) in entries {
            self.bytes.extend(tag.to_le_bytes());
            self.bytes.extend(kind.to_le_bytes());
            self.bytes.extend(1_u32.to_le_bytes());
            self.bytes.extend(value.to_le_bytes());
        }
        self.link = self.bytes.len();
        self.bytes.extend(0_u32.to_le_bytes());
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn place(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }
}

/// A word as Tesseract found it, in pixels of its page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// From 0.
    pub(super) page: usize,
    pub(super) left: u32,
    pub(super) width: u32,
    pub(super) confidence: u8,
    pub(super) text: String,
}

/// The words of a TSV: level, page, block, paragraph, line, word, left, top, width, height, confidence,
/// text. Level 5 is a word. Lines of other levels, and broken ones, are passed over.
pub(super) fn words(tsv: &str) -> Vec<Found> {
    let word = |line: &str| -> Option<Found> {
        let fields: Vec<_> = line.splitn(12, '\t').collect();
        let [level, page, _, _, _, _, left, _, width, _, confidence, text] = fields[..] else {
            return None;
        };
        let text = text.trim();
        if level != "5" || text.is_empty() {
            return None;
        }
        let percent: f32 = confidence.parse().ok()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is put between 0 and 100 first"
        )]
        let confidence = percent.clamp(0.0, 100.0) as u8;
        Some(Found {
            page: page.parse::<usize>().ok()?.checked_sub(1)?,
            left: left.parse().ok()?,
            width: width.parse().ok()?,
            confidence,
            text: text.to_owned(),
        })
    };
    tsv.lines().filter_map(word).collect()
}
