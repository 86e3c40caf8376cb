//! `take_screenshot` and the screen's resources: pictures of what is there.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::guest::{Area, Guest, HEIGHT, WIDTH};

/// A decoded picture, three bytes for each pixel.
#[derive(PartialEq)]
struct Pixels {
    width: i32,
    height: i32,
    bytes: Vec<u8>,
}

impl Pixels {
    fn of_png(bytes: &[u8]) -> Self {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().expect("a PNG");
        let mut bytes = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut bytes).expect("a whole PNG");
        assert_eq!(info.color_type, png::ColorType::Rgb);
        bytes.truncate(info.buffer_size());
        Self {
            width: i32::try_from(info.width).unwrap(),
            height: i32::try_from(info.height).unwrap(),
            bytes,
        }
    }

    fn at(&self, x: i32, y: i32) -> [u8; 3] {
        let start = usize::try_from((y * self.width + x) * 3).unwrap();
        self.bytes[start..start + 3].try_into().unwrap()
    }

    fn crop(&self, area: Area) -> Self {
        let rows = area.y..area.y + area.height;
        let bytes = rows
            .flat_map(|y| (area.x..area.x + area.width).map(move |x| (x, y)))
            .flat_map(|(x, y)| self.at(x, y))
            .collect();
        Self {
            width: area.width,
            height: area.height,
            bytes,
        }
    }
}

/// A window all of one colour: text, cursor and ground.
fn open_coloured(guest: &mut Guest, title: &str, colour: &str, geometry: &str) -> Area {
    let program = [
        "xterm",
        "-T",
        title,
        "-bg",
        colour,
        "-fg",
        colour,
        "-cr",
        colour,
        "-b",
        "0",
        "-geometry",
        geometry,
        "-e",
        "sleep",
        "600",
    ];
    guest.open_window(title, &program)
}

#[test]
fn the_picture_shows_what_is_there() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let colours: [(&str, [u8; 3], &str); 3] = [
        ("#ff0000", [255, 0, 0], "20x5+60+560"),
        ("#00c040", [0, 0xc0, 0x40], "20x5+420+560"),
        ("#1234ef", [0x12, 0x34, 0xef], "20x5+780+560"),
    ];
    let mut windows = vec![];
    for (colour, pixel, geometry) in colours {
        let title = format!("colour {}", colour.trim_start_matches('#'));
        windows.push((open_coloured(&mut guest, &title, colour, geometry), pixel));
    }
    let shows = |pixels: &Pixels| {
        windows.iter().all(|(area, pixel)| {
            assert!(area.width > 100 && area.height > 50, "{area:?}");
            let shown = pixels.crop(*area);
            shown.bytes.chunks_exact(3).all(|shown| shown == pixel)
        })
    };
    // A window is there some time before it is painted.
    let (reply, full) = guest.until("the windows are painted", |_| {
        let reply = client.done("take_screenshot", json!({}));
        assert_eq!(reply.pictures.len(), 1);
        assert_eq!(reply.pictures[0].0, "image/png");
        assert_eq!(reply.data, None);
        let pixels = Pixels::of_png(&reply.pictures[0].1);
        shows(&pixels).then_some((reply, pixels))
    });
    assert_eq!((full.width, full.height), (WIDTH, HEIGHT));
    let id = reply
        .text
        .strip_prefix("Screenshot ")
        .and_then(|text| text.split(' ').next());
    let id = id.expect("the reply gives an id");
    assert_eq!(
        reply.text,
        format!(
            "Screenshot {id} of {}: 1280×800 pixels, native size. Resource vm://screenshot/{id}.",
            guest.name
        )
    );

    let (first, _) = windows[0];
    let regions = [
        Area {
            x: first.x - 20,
            y: first.y - 30,
            width: 300,
            height: 77,
        },
        Area {
            x: 0,
            y: 0,
            width: 1,
            height: 1,
        },
        Area {
            x: WIDTH - 3,
            y: HEIGHT - 2,
            width: 3,
            height: 2,
        },
        Area {
            x: 0,
            y: 0,
            width: WIDTH,
            height: HEIGHT,
        },
    ];
    for area in regions {
        let region = json!([area.x, area.y, area.x + area.width, area.y + area.height]);
        let reply = client.done("take_screenshot", json!({"region": region}));
        let part = Pixels::of_png(&reply.pictures[0].1);
        assert!(
            part == full.crop(area),
            "{area:?} is another picture than that part of the whole"
        );
    }

    let read = |client: &mut crate::mcp::Client, uri: &str| {
        let answer = client.request("resources/read", json!({"uri": uri}));
        let contents = &answer["result"]["contents"][0];
        assert_eq!(contents["mimeType"], "image/png", "{uri}: {answer}");
        STANDARD.decode(contents["blob"].as_str().unwrap()).unwrap()
    };
    let kept = read(&mut client, &format!("vm://screenshot/{id}"));
    assert!(
        kept == reply.pictures[0].1,
        "the resource is another picture than the reply's"
    );
    let now = read(&mut client, &format!("vm://screen/{}", guest.name));
    assert!(
        Pixels::of_png(&now) == full,
        "the screen's resource is another picture"
    );
}

#[test]
fn the_pointers_place_is_marked_and_its_pixel_left_free() {
    const MAGENTA: [u8; 3] = [255, 0, 255];
    let mut guest = Guest::enter();
    let mut client = guest.client();
    // Of one colour, so that every other pixel is the mark's.
    let ground = [0x12, 0x34, 0xef];
    let area = open_coloured(&mut guest, "ground", "#1234ef", "40x10+300+300");
    let (x, y) = area.at(100, 60);
    let line = format!("The ring around {x},{y} is the pointer's place, drawn by this server.");
    client.done("move_mouse", json!({"x": x, "y": y}));
    guest.assert_pointer_at((x, y));
    let around = |pixels: &Pixels, (x, y): (i32, i32)| {
        pixels.crop(Area {
            x: x - 12,
            y: y - 12,
            width: 25,
            height: 25,
        })
    };
    let (reply, whole) = guest.until("the window is painted", |_| {
        let reply = client.done("take_screenshot", json!({}));
        let pixels = Pixels::of_png(&reply.pictures[0].1);
        (pixels.at(x + 40, y) == ground).then_some((reply, pixels))
    });
    assert!(reply.text.lines().any(|it| it == line), "{}", reply.text);
    let marked = around(&whole, (x, y));
    // What is in the middle is seen as it is, and the ring is as far from it on all sides.
    for (dx, dy) in [
        (0, 0),
        (1, 0),
        (0, 1),
        (-4, 0),
        (0, -4),
        (4, 0),
        (0, 4),
        (3, 3),
    ] {
        assert_eq!(marked.at(12 + dx, 12 + dy), ground, "{dx},{dy}");
    }
    for (dx, dy) in [
        (7, 0),
        (-7, 0),
        (0, 7),
        (0, -7),
        (5, 5),
        (-5, 5),
        (5, -5),
        (-5, -5),
    ] {
        assert_eq!(marked.at(12 + dx, 12 + dy), MAGENTA, "{dx},{dy}");
    }
    for at in 0..25 {
        for (x, y) in [(at, 0), (at, 24), (0, at), (24, at)] {
            assert_eq!(marked.at(x, y), ground, "the ring is small: {x},{y}");
        }
    }
    // The guest's own pointer would be seen here, were it in the picture.
    let reply = client.done("take_screenshot", json!({"pointer": false}));
    let plain = Pixels::of_png(&reply.pictures[0].1);
    assert!(!reply.text.contains("ring"), "{}", reply.text);
    assert!(
        around(&plain, (x, y))
            .bytes
            .chunks_exact(3)
            .all(|it| it == ground)
    );

    let region = json!([x - 50, y - 30, x + 50, y + 25]);
    let reply = client.done("take_screenshot", json!({"region": region}));
    assert!(reply.text.lines().any(|it| it == line), "{}", reply.text);
    let part = Pixels::of_png(&reply.pictures[0].1);
    assert!(
        around(&part, (50, 30)) == marked,
        "the same ring in a region"
    );

    client.done("project_init", json!({"name": "marks"}));
    let reply = client.done("take_screenshot", json!({}));
    assert!(reply.text.lines().any(|it| it == line), "{}", reply.text);
    let path = reply
        .text
        .lines()
        .next()
        .unwrap()
        .rsplit(": ")
        .next()
        .unwrap();
    let saved = Pixels::of_png(&std::fs::read(path).unwrap());
    assert!(saved == plain, "the project's file has no mark");
}

#[test]
fn jpeg_is_sent_where_it_is_asked_for() {
    let guest = Guest::enter();
    let mut client = guest.client();
    let reply = client.done("take_screenshot", json!({"format": "jpeg"}));
    let (mime, bytes) = &reply.pictures[0];
    assert_eq!(mime, "image/jpeg");
    assert_eq!(bytes[..2], [0xff, 0xd8]);
    assert_eq!(bytes[bytes.len() - 2..], [0xff, 0xd9]);
    assert_eq!(jpeg_size(bytes), (WIDTH, HEIGHT));
}

/// Reads the size from the frame header, ITU-T T.81 annex B.2.2.
fn jpeg_size(bytes: &[u8]) -> (i32, i32) {
    let number = |at: usize| i32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let mut at = 2;
    loop {
        assert_eq!(bytes[at], 0xff, "a marker");
        if matches!(bytes[at + 1], 0xc0..=0xc2) {
            return (number(at + 7), number(at + 5));
        }
        at += 2 + usize::try_from(number(at + 2)).unwrap();
    }
}

#[test]
fn regions_outside_the_picture_are_refused() {
    let guest = Guest::enter();
    let mut client = guest.client();
    for region in [
        [0, 0, 1281, 10],
        [0, 790, 10, 801],
        [10, 10, 10, 20],
        [20, 10, 10, 20],
    ] {
        let error = client.fails("take_screenshot", json!({"region": region}));
        assert!(
            error.contains("is empty or not inside the screenshot of 1280×800 pixels."),
            "{region:?}: {error}"
        );
    }
}
