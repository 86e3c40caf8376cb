//! What the guest's screen says: a terminal under X, by OCR.

use serde_json::{Value, json};

use crate::{
    guest::{Area, Guest},
    mcp::ToolReply,
};

/// A window with text of a size that most desktops have.
fn open_text_window(guest: &mut Guest, colours: [&str; 2], text: &str) -> Area {
    let print = format!("printf '\\033[?25l{text}'; sleep 600");
    let program = [
        "xterm",
        "-T",
        "text",
        "-fa",
        "DejaVu Sans Mono",
        "-fs",
        "11",
        "-geometry",
        "60x12+100+60",
        "-fg",
        colours[0],
        "-bg",
        colours[1],
        "-e",
        "sh",
        "-c",
        &print,
    ];
    guest.open_window("text", &program)
}

fn data(reply: &ToolReply) -> &Value {
    reply.data.as_ref().expect("it gives data")
}

fn only_match(reply: &ToolReply) -> (String, [i64; 4]) {
    let matches = &data(reply)["matches"];
    let [only] = matches.as_array().unwrap().as_slice() else {
        panic!("{matches}");
    };
    let edges: Vec<_> = only["box"].as_array().unwrap().iter().collect();
    let edge = |at: usize| edges[at].as_i64().unwrap();
    (
        only["text"].as_str().unwrap().to_owned(),
        [edge(0), edge(1), edge(2), edge(3)],
    )
}

#[test]
fn a_terminal_is_read_by_ocr_on_light_and_on_dark() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    for colours in [["black", "white"], ["#d0d0d0", "#102030"]] {
        let text = "The quick brown fox\\n\\njumps over the lazy dog 2468\\n";
        let window = open_text_window(&mut guest, colours, text);
        let here: Value = json!([
            window.x,
            window.y,
            window.x + window.width,
            window.y + window.height
        ]);
        let waiting = json!([{"condition": "text", "pattern": "lazy dog", "region": here}]);
        let reply = client.done("wait_for", json!({"conditions": waiting}));
        assert!(reply.text.contains("read by OCR"), "{}", reply.text);
        let reply = client.done("screen_text", json!({"region": here}));
        assert_eq!(data(&reply)["reader"], "ocr");
        let lines: Vec<_> = data(&reply)["lines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["text"].as_str().unwrap())
            .collect();
        assert_eq!(
            lines,
            ["The quick brown fox", "jumps over the lazy dog 2468"],
            "{colours:?}"
        );
        // On the whole screen the word is found too, and where xterm drew it: 60 columns, and borders
        // of 2 pixels.
        let reply = client.done("screen_text", json!({"pattern": "quick"}));
        let (_, [x0, y0, x1, y1]) = only_match(&reply);
        let column = |column: i32| window.x + 2 + column * (window.width - 4) / 60;
        let is_near = |at: i64, place: i32| (at - i64::from(place)).abs() <= 3;
        assert!(
            is_near(x0, column(4)) && is_near(x1, column(9)),
            "{} {window:?}",
            reply.text
        );
        let row = window.height / 12;
        assert!(
            y0 >= i64::from(window.y) && y1 <= i64::from(window.y + row + 4),
            "{} {window:?}",
            reply.text
        );
        guest.end("text");
    }
}
