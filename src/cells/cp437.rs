//! The characters of the PC's first font, which VGA text mode has and fonts without a table mean.

/// Code page 437, with the pictures that it has in place of control characters.
/// Source: <https://www.unicode.org/Public/MAPPINGS/VENDORS/MICSFT/PC/CP437.TXT>, and IBMGRAPH.TXT in MISC.
const CHARACTERS: &str = "\
\u{0}☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼ !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_\
`abcdefghijklmnopqrstuvwxyz{|}~⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼\
╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The character of each code, from 0 to 255.
pub(super) fn characters() -> impl Iterator<Item = char> {
    // Code 0 looks like a blank.
    CHARACTERS
        .chars()
        .map(|it| if it == '\0' { ' ' } else { it })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_character_for_each_code() {
        let all: Vec<char> = characters().collect();
        assert_eq!(all.len(), 256);
        let cases = [
            (0x00, ' '),
            (0x1f, '▼'),
            (0x41, 'A'),
            (0x7f, '⌂'),
            (0x80, 'Ç'),
            (0xb3, '│'),
            (0xc4, '─'),
            (0xdb, '█'),
            (0xe1, 'ß'),
            (0xfe, '■'),
            (0xff, '\u{a0}'),
        ];
        for (code, character) in cases {
            assert_eq!(all[code], character, "{code:#x}");
        }
    }
}
