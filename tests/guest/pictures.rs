//! Waiting for a part of a saved screenshot, and clicking where it is found.

use serde_json::json;

use crate::guest::Guest;

/// A region as a reply tells it, and the point behind it.
fn told(text: &str) -> ([i32; 4], [i32; 2]) {
    let (_, rest) = text.split_once(" at [").expect("it tells the place");
    let (region, rest) = rest
        .split_once("], the middle at ")
        .expect("and its middle");
    let (middle, _) = rest.split_once(';').expect("and how well it is found");
    let numbers = |text: &str| -> Vec<i32> {
        let numbers = text
            .split(',')
            .map(|it| it.trim().parse().expect("a number"));
        numbers.collect()
    };
    let region = numbers(region).try_into().expect("four numbers");
    (region, numbers(middle).try_into().expect("two numbers"))
}

#[test]
fn a_part_of_a_screenshot_is_waited_for_and_clicked_on() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    client.done("project_init", json!({"name": "pictures"}));
    // At the second size the screen is shown at 1568×882.
    for (size, of) in [(None, [1, 1]), (Some((1920, 1080)), [49, 60])] {
        if let Some((width, height)) = size {
            guest.resize(width, height);
        }
        let program = [
            "xterm",
            "-T",
            "sought",
            "-geometry",
            "40x8+300+200",
            "-bg",
            "#204060",
            "-fg",
            "white",
            "-e",
            "sh",
            "-c",
            "cat /etc/os-release; exec sleep 600",
        ];
        let window = guest.open_window("sought", &program);
        client.done(
            "wait_for",
            json!({"conditions": [{"condition": "stable", "ms": 1000}]}),
        );
        let shot = client.done("take_screenshot", json!({}));
        let (_, uri) = shot.text.split_once("Resource ").expect("a resource");
        let (uri, _) = uri.split_once(". ").expect("and its file");
        // Inside the frame, and without the cursor's line.
        let shown = |at: i32| at * of[0] / of[1];
        let [x0, y0] = [shown(window.x + 4), shown(window.y + 4)];
        let part = [x0, y0, x0 + 150, y0 + 40];
        let near = [x0 - 60, y0 - 60, x0 + 260, y0 + 140];
        guest.end("sought");
        let image = json!({"condition": "image", "path": uri, "part": part, "region": near});
        let gone = client.call("wait_for", json!({"conditions": [image], "timeout": 3}));
        assert!(gone.is_error, "{}", gone.text);
        assert!(
            gone.text.starts_with("Nothing held within 3 s: `image`: "),
            "{}",
            gone.text
        );

        let waiting = client.send_call("wait_for", json!({"conditions": [image]}));
        let again = guest.open_window("sought", &program);
        assert_eq!(again, window, "it opens where it was");
        let reply = client.reply(waiting);
        assert!(!reply.is_error, "{}", reply.text);
        let (at, [x, y]) = told(&reply.text);
        let off = at.iter().zip(part).map(|(at, wanted)| (at - wanted).abs());
        assert!(off.max() <= Some(1), "{part:?}: {}", reply.text);
        client.done("click", json!({"x": x, "y": y}));
        let native = |at: i32| at * of[1] / of[0];
        let (px, py) = guest.pointer();
        assert!(
            (px - native(x)).abs() <= 1 && (py - native(y)).abs() <= 1,
            "{px},{py}: {}",
            reply.text
        );
        assert!(
            (window.x..window.x + window.width).contains(&px),
            "{px} is not in {window:?}"
        );
        assert!(
            (window.y..window.y + window.height).contains(&py),
            "{py} is not in {window:?}"
        );
        guest.end("sought");
    }
}
