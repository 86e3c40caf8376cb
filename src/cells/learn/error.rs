//! Why nothing was learned.

use std::fmt;

use crate::model::{Point, ScreenSize};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    #[error("the known text is empty")]
    NoText,
    #[error("the known text has the character U+{:04X} in its line {line}, which no cell shows", u32::from(*character))]
    BadCharacter { character: char, line: usize },
    #[error(
        "the known text has {0} characters that stand in it more than once, too few to find it by"
    )]
    TooFewRepeats(usize),
    #[error("cells of {cell} pixels are no console's")]
    BadCell { cell: ScreenSize },
    #[error("the font that is learned on has cells of {known} pixels, not {cell}")]
    OtherCell { known: ScreenSize, cell: ScreenSize },
    #[error("the known text does not fit into the picture of {picture} pixels{}", from(*origin))]
    TooLarge {
        picture: ScreenSize,
        origin: Option<Point>,
    },
    #[error(
        "the known text is nowhere in the picture, in cells of {}",
        list(cells, ", ")
    )]
    NotFound { cells: Vec<ScreenSize> },
    #[error("the known text is not what the picture shows at {origin} in cells of {cell}: {fault}")]
    Contradiction {
        cell: ScreenSize,
        origin: Point,
        fault: Fault,
    },
    #[error(
        "the known text fits the picture in {} places: {}",
        places.len(),
        list(&places.iter().take(6).map(|(cell, origin)| format!("cells of {cell} at {origin}")).collect::<Vec<_>>(), "; ")
    )]
    Ambiguous { places: Vec<(ScreenSize, Point)> },
}

impl LearnError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoText => "Put into the file what the screen says, line by line.",
            Self::BadCharacter { .. } => {
                "Write the text as the screen shows it: blanks for tabs, and U+FFFD for a cell that is not to be learned."
            }
            Self::TooFewRepeats(_) | Self::Ambiguous { .. } => {
                "Say where it stands with `--cell` and `--origin`, or show more text, with a full block (█) where the font has one."
            }
            Self::BadCell { .. } => "Cells are from 4×6 to 64×128 pixels, such as 8x16.",
            Self::OtherCell { .. } => {
                "Leave `--cell` out to learn on, or choose another `--name` for another font."
            }
            Self::TooLarge { .. } => {
                "Give fewer lines, each as long as a line of the screen at most, or correct `--cell` and `--origin`."
            }
            Self::NotFound { .. } => {
                "Compare the text with the screen, line by line; it must stand on one background. Give `--cell` where the cells are of another size."
            }
            Self::Contradiction { .. } => {
                "Correct the text there, or put U+FFFD for a cell that is covered or is not to be learned; a cursor must not stand in it."
            }
        }
    }
}

/// What speaks against a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("`{character}` looks otherwise {here} than {there}")]
    Differs {
        character: char,
        here: Spot,
        there: Spot,
    },
    #[error("`{character}` looks otherwise {here} than in the font that is learned on")]
    Known { character: char, here: Spot },
    #[error("nothing is drawn {here}, where `{character}` should be")]
    Blank { character: char, here: Spot },
    #[error("something is drawn {here}, where a blank should be")]
    Drawn { here: Spot },
    #[error("there are more than two colours {here}, where `{character}` should be")]
    Motley { character: char, here: Spot },
    #[error("what is drawn {here} does not reach the edges of its cell, as `{character}` does")]
    Short { character: char, here: Spot },
    #[error("{} look the same", list(characters, " "))]
    Alike { characters: Vec<char> },
}

/// A cell of the text: its line and column from 1, and its top left pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    pub line: usize,
    pub column: usize,
    pub at: Point,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, at } = self;
        write!(f, "in line {line}, column {column} (at {at})")
    }
}

fn from(origin: Option<Point>) -> String {
    origin.map_or_else(String::new, |origin| format!(" from {origin} on"))
}

fn list<T: fmt::Display>(items: &[T], between: &str) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(between)
}
