//! Waiting for saved pictures over a screen that is played look by look.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/stage.rs"]
mod stage;

use fake::Scene;
use serde_json::json;
use stage::Stage;
use virtpilot::{image::Picture, model::Region};

/// A small screen, which is searched fast without optimisation too, with white rectangles on it.
fn small(white: &[[u32; 4]]) -> Scene {
    Scene::Painted {
        width: 240,
        height: 140,
        white: white.to_vec(),
    }
}

/// A mark on it, and the part of it around the mark.
const MARK: [u32; 4] = [60, 50, 80, 60];
const AROUND: [i32; 4] = [50, 40, 100, 72];

/// A file where relative paths begin.
fn save(stage: &Stage, name: &str, bytes: &[u8]) {
    let folder = stage.home.path().join(".local/share/virtpilot");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn picture_of(scene: &Scene) -> Picture {
    Picture::decode("image/x-portable-pixmap", scene.picture()).unwrap()
}

fn save_around_mark(stage: &Stage) {
    let part = picture_of(&small(&[MARK])).crop(Region::from(AROUND));
    save(stage, "mark.png", &part.to_png().unwrap());
    save(stage, "mark.jpg", &part.to_jpeg().unwrap());
}

#[tokio::test]
async fn a_saved_picture_is_waited_for_and_its_place_told() {
    let stage = Stage::set();
    save_around_mark(&stage);
    let scenes = || vec![small(&[]), small(&[]), small(&[MARK])];
    let found = "is on the screen at [50, 40, 100, 72], the middle at 75,56; it";
    for (condition, text) in [
        (
            json!({"condition": "image", "path": "mark.png", "tolerance": 0}),
            format!("The picture `mark.png` {found} is equal to the pixel"),
        ),
        (
            json!({"condition": "image", "path": "mark.png", "part": [5, 5, 35, 32]}),
            "The picture `mark.png` is on the screen at [55, 45, 85, 72], the middle at 70,58; \
             it is equal to the pixel"
                .to_owned(),
        ),
        (
            json!({"condition": "image", "path": "mark.png", "region": [45, 40, 100, 120]}),
            "The picture `mark.png` is on the region [45, 40, 100, 120] at [50, 40, 100, 72], \
             the middle at 75,56; it is equal to the pixel"
                .to_owned(),
        ),
    ] {
        stage.fake.play(scenes());
        assert_eq!(stage.held(json!([condition])).await, text);
        assert_eq!(stage.fake.looks(), 3, "{condition}");
    }
    stage.fake.play(scenes());
    let jpeg = json!([{"condition": "image", "path": "mark.jpg"}]);
    let text = stage.held(jpeg).await;
    let (place, difference) = text.rsplit_once(" differs by ").unwrap();
    assert_eq!(place, format!("The picture `mark.jpg` {found}"));
    let difference: f64 = difference.parse().unwrap();
    assert!(difference > 0.0 && difference < 0.05, "{text}");
}

#[tokio::test]
async fn what_is_only_like_a_picture_ends_no_wait() {
    let stage = Stage::set();
    save_around_mark(&stage);
    // Half of the mark is worth less than a tenth of the slope around it.
    let [x0, y0, x1, _] = MARK;
    stage.fake.play(vec![small(&[[x0, y0, x1, y0 + 5]])]);
    let image = json!([{"condition": "image", "path": "mark.png"}]);
    let reply = stage.in_vain(image, 3.0).await;
    let begins = "Nothing held within 3 s: `image`: what was most like the picture on the screen, at \
                  [50, 40, 100, 72], differed by 0.";
    assert!(reply.text.starts_with(begins), "{}", reply.text);
    assert!(reply.text.contains(", more than 0.1."), "{}", reply.text);
    let elsewhere = json!([{
        "condition": "image", "path": "mark.png", "region": [100, 100, 150, 132], "tolerance": 1,
    }]);
    stage.fake.play(vec![small(&[[0, 0, 240, 140]])]);
    let reply = stage.in_vain(elsewhere, 3.0).await;
    assert!(
        reply
            .text
            .contains("nothing on the region [100, 100, 150, 132] was like the picture"),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn a_picture_of_a_larger_screen_is_waited_for_until_it_fits() {
    let stage = Stage::set();
    save(
        &stage,
        "all.png",
        &picture_of(&small(&[MARK])).to_png().unwrap(),
    );
    let smaller = Scene::Painted {
        width: 200,
        height: 100,
        white: vec![],
    };
    stage.fake.play(vec![smaller.clone()]);
    stage.call("take_screenshot", json!({})).await;
    stage.fake.play(vec![smaller, small(&[]), small(&[MARK])]);
    assert_eq!(
        stage
            .held(json!([{"condition": "image", "path": "all.png", "tolerance": 0}]))
            .await,
        "The picture `all.png` is on the screen at [0, 0, 240, 140], the middle at 120,70; it is \
         equal to the pixel"
    );
    // The place that was told is one of the screen as it is now, not as it was last shown.
    let click = stage.call("click", json!({"x": 120, "y": 70})).await;
    assert!(!click.is_error(), "{}", click.text);
    let within = json!({"condition": "image", "path": "all.png", "region": [0, 0, 239, 140]});
    let text = stage
        .refused("wait_for", json!({"conditions": [within]}))
        .await;
    assert!(
        text.starts_with(
            "The picture of 240×140 pixels is larger than the region [0, 0, 239, 140]."
        ),
        "{text}"
    );
}

/// A screen that is shown at 320×120.
fn large(white: &[[u32; 4]]) -> Scene {
    Scene::Painted {
        width: 480,
        height: 180,
        white: white.to_vec(),
    }
}

#[tokio::test]
async fn a_part_of_a_screenshot_is_found_in_shown_coordinates() {
    // One that a project has at native size, and one that is kept as it was shown.
    let cases = [
        (true, "[204, 34, 237, 60], the middle at 220,47"),
        (false, "[205, 34, 237, 60], the middle at 221,47"),
    ];
    for (in_project, moved) in cases {
        let stage = Stage::with(&[], "[vm.demo]\nlong_edge = 320\n");
        if in_project {
            let project = json!({"name": "p", "description": "d"});
            assert!(!stage.call("project_init", project).await.is_error());
        }
        stage.fake.play(vec![large(&[[60, 60, 90, 78]])]);
        let shot = stage.call("take_screenshot", json!({})).await;
        assert!(
            shot.text.contains("320×120 pixels, scaled from 480×180"),
            "{}",
            shot.text
        );
        let (_, uri) = shot.text.split_once("Resource ").unwrap();
        let end = uri.find(". ").unwrap_or(uri.len() - 1);
        let uri = &uri[..end];
        // The mark is shown at [40, 40, 60, 52].
        let image = json!([{"condition": "image", "path": uri, "part": [34, 34, 66, 60]}]);
        let text = stage.held(image.clone()).await;
        let begins = format!("The picture `{uri}` is on the screen at ");
        assert_eq!(
            text,
            format!("{begins}[34, 34, 66, 60], the middle at 50,47; it is equal to the pixel")
        );
        // The slope is the same again after 256 pixels, which are no whole number of shown ones.
        stage
            .fake
            .play(vec![large(&[]), large(&[[316, 60, 346, 78]])]);
        let text = stage.held(image).await;
        assert!(text.starts_with(&format!("{begins}{moved}; it")), "{text}");
        assert_eq!(stage.fake.looks(), 2);
        assert_eq!(text.ends_with("equal to the pixel"), in_project, "{text}");
    }
}

#[tokio::test]
async fn a_part_of_a_region_is_in_pixels_of_the_full_screenshot() {
    let stage = Stage::set();
    stage.fake.play(vec![small(&[MARK])]);
    let region = json!({"region": [40, 30, 200, 100]});
    let shot = stage.call("take_screenshot", region).await;
    let (_, uri) = shot.text.split_once("Resource ").unwrap();
    let uri = uri.strip_suffix('.').unwrap();
    let image = |part: [i32; 4]| json!([{"condition": "image", "path": uri, "part": part}]);
    assert_eq!(
        stage.held(image(AROUND)).await,
        format!(
            "The picture `{uri}` is on the screen at [50, 40, 100, 72], the middle at 75,56; \
             it is equal to the pixel"
        )
    );
    let outside = json!({"conditions": image([39, 40, 100, 72])});
    assert!(stage.refused("wait_for", outside).await.starts_with(
        "`conditions[0]`: the part [39, 40, 100, 72] is empty or not inside the picture, which is \
         [40, 30, 200, 100]."
    ));
}

#[tokio::test]
async fn bad_pictures_are_told_before_the_wait() {
    let stage = Stage::set();
    let whole = picture_of(&small(&[MARK]));
    let png = whole.to_png().unwrap();
    save(&stage, "all.png", &png);
    save(&stage, "half.png", &png[..png.len() / 2]);
    let jpeg = whole.to_jpeg().unwrap();
    save(&stage, "half.jpg", &jpeg[..jpeg.len() / 2]);
    save(&stage, "text.png", b"no picture");
    // As a bomb has them: a header that stands for gigabytes.
    let mut bomb = png.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    save(&stage, "bomb.png", &bomb);
    let one = whole.crop(Region::from([5, 5, 6, 6]));
    save(&stage, "one.png", &one.to_png().unwrap());
    let folder = stage.home.path().join(".local/share/virtpilot/folder");
    std::fs::create_dir(&folder).unwrap();
    let looks = stage.fake.looks();
    let cases = [
        (json!({"path": "missing.png"}), "there is no "),
        (
            json!({"path": "folder"}),
            "folder is no regular file.\nNext: Give the path of a PNG or JPEG file.",
        ),
        (
            json!({"path": "/etc/passwd"}),
            "/etc/passwd lies outside the folders that transfers may touch: ",
        ),
        (json!({"path": ""}), "the path is empty."),
        (
            json!({"path": "text.png"}),
            "`text.png` is no picture that can be read.\nCause: it is neither PNG nor JPEG\nNext: Save \
             it as PNG or JPEG, ",
        ),
        (
            json!({"path": "half.png"}),
            "`half.png` is no picture that can be read.\nCause: the PNG cannot be read: ",
        ),
        (
            json!({"path": "half.jpg"}),
            "`half.jpg` is no picture that can be read.\nCause: the JPEG cannot be read: ",
        ),
        (
            json!({"path": "bomb.png"}),
            "`bomb.png` is no picture that can be read.\nCause: the picture cannot be read: its size is \
             no screen's\n",
        ),
        (
            json!({"path": "one.png"}),
            "the picture is of one colour, which is found anywhere.\nNext: Choose a part with an edge, ",
        ),
        (
            json!({"path": "all.png", "part": [5, 5, 6, 6]}),
            "the picture is of one colour, ",
        ),
        (
            json!({"path": "all.png", "part": [0, 0, 241, 5]}),
            "the part [0, 0, 241, 5] is empty or not inside the picture, which is [0, 0, 240, 140].\n\
             Next: A part is [x0, y0, x1, y1] with 0 ≤ x0 < x1 ≤ 240 and 0 ≤ y0 < y1 ≤ 140.",
        ),
        (
            json!({"path": "all.png", "part": [5, 5, 5, 9]}),
            "the part [5, 5, 5, 9] is empty ",
        ),
        (
            json!({"path": "all.png", "tolerance": 1.5}),
            "`tolerance` is 1.5, and must be from 0 to 1.",
        ),
        (
            json!({"path": "all.png", "tolerance": -1}),
            "`tolerance` is -1, and must be from 0 to 1.",
        ),
        (
            json!({"path": "vm://screenshot/nonsense"}),
            "`nonsense` is no screenshot id.",
        ),
        (
            json!({"path": "vm://screenshot/20261122-062613-660053"}),
            "there is no screenshot 20261122-062613-660053.\nNext: Without a project only the last ones \
             are kept. Take a new one with `take_screenshot`.",
        ),
        (json!({}), "the parameter `path` is missing."),
    ];
    for (mut condition, says) in cases {
        condition["condition"] = json!("image");
        let conditions = json!([{"condition": "stable"}, condition]);
        let text = stage
            .refused("wait_for", json!({"conditions": conditions}))
            .await;
        assert!(text.contains(says), "{condition}: {text}");
        let step = json!({"action": "wait_for", "conditions": conditions});
        let tap = json!({"action": "press_keys", "keys": ["a"]});
        let text = stage
            .refused("run_actions", json!({"actions": [tap, step]}))
            .await;
        let begins = "Action 2 is refused, and nothing was done: ";
        assert!(
            text.starts_with(begins) && text.contains(says),
            "{condition}: {text}"
        );
    }
    assert_eq!(stage.fake.looks(), looks);
    assert!(stage.fake.calls().is_empty());
    let refusal = stage
        .refused(
            "wait_for",
            json!({"conditions": [{"condition": "image", "path": "/etc/passwd"}]}),
        )
        .await;
    assert!(refusal.contains("host_folders = ["), "{refusal}");
}

#[tokio::test]
async fn a_file_needs_files_and_a_screenshot_does_not() {
    let stage = Stage::with(&[], "allow = [\"view\", \"input\"]\n");
    save_around_mark(&stage);
    stage.fake.play(vec![small(&[MARK])]);
    let file = json!([{"condition": "image", "path": "mark.png"}]);
    for (tool, arguments) in [
        ("wait_for", json!({"conditions": file})),
        (
            "run_actions",
            json!({"actions": [{"action": "wait_for", "conditions": file}]}),
        ),
    ] {
        let text = stage.refused(tool, arguments).await;
        assert!(
            text.starts_with("`files` is not granted for the VM `demo`"),
            "{text}"
        );
    }
    let shot = stage.call("take_screenshot", json!({})).await;
    let (_, uri) = shot.text.split_once("Resource ").unwrap();
    let uri = uri.strip_suffix('.').unwrap();
    let image = json!([{"condition": "image", "path": uri, "part": AROUND}]);
    let actions = json!({"actions": [{"action": "wait_for", "conditions": image}]});
    let reply = stage.call("run_actions", actions).await;
    assert!(!reply.is_error(), "{}", reply.text);
    assert!(
        reply.text.contains(
            "at [50, 40, 100, 72], the middle at 75,56; it is equal to the pixel, after "
        ),
        "{}",
        reply.text
    );
}
