//! Pictures: as content of a reply, as resources, and in a project.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used)]

#[path = "support/mcp.rs"]
mod mcp;
#[path = "support/test_driver.rs"]
mod test_driver;

use mcp::{Client, ToolReply, binary, decoded};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_driver::{HEIGHT, WIDTH};
use virtpilot::{
    image::{Picture, size},
    model::{Region, ScreenSize},
};

fn start(arguments: &[&str]) -> (TempDir, Client) {
    let home = TempDir::new().unwrap();
    let mut command = binary(home.path());
    command.args(["--uri", test_driver::URI]).args(arguments);
    let client = Client::start(command);
    (home, client)
}

/// The id and the only picture of a reply to `take_screenshot`.
fn shot(reply: &ToolReply) -> (String, Vec<u8>) {
    assert_eq!(reply.data, None, "no data beside a picture");
    let id = reply.text.split(' ').nth(1).unwrap().to_owned();
    let [(_, bytes)] = reply.pictures.as_slice() else {
        panic!("{} pictures", reply.pictures.len());
    };
    (id, bytes.clone())
}

fn read(client: &mut Client, uri: &str) -> (String, Vec<u8>) {
    let answer = client.request("resources/read", json!({"uri": uri}));
    let contents = answer["result"]["contents"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(contents.len(), 1);
    assert_eq!(contents[0]["uri"], uri);
    (
        contents[0]["mimeType"].as_str().unwrap().to_owned(),
        decoded(contents[0]["blob"].as_str().unwrap()),
    )
}

fn uris(client: &mut Client) -> Vec<String> {
    let listed = client.request("resources/list", json!({}));
    let resources = listed["result"]["resources"].as_array().unwrap().clone();
    resources
        .iter()
        .map(|it| it["uri"].as_str().unwrap().to_owned())
        .collect()
}

fn complete(client: &mut Client, template: &str, argument: &str, value: &str) -> Value {
    client.request(
        "completion/complete",
        json!({
            "ref": {"type": "ref/resource", "uri": template},
            "argument": {"name": argument, "value": value},
        }),
    )["result"]["completion"]["values"]
        .take()
}

#[test]
fn a_screenshot_is_a_picture_and_a_resource_of_the_same_bytes() {
    let (_home, mut client) = start(&[]);
    let reply = client.done("take_screenshot", json!({}));
    let (id, bytes) = shot(&reply);
    assert_eq!(
        reply.text,
        format!(
            "Screenshot {id} of test: {WIDTH}×{HEIGHT} pixels, native size. Resource \
             vm://screenshot/{id}."
        )
    );
    assert_eq!(reply.pictures[0].0, "image/png");
    let native = ScreenSize {
        width: WIDTH,
        height: HEIGHT,
    };
    assert_eq!(size("image/png", &bytes).unwrap(), native);
    let kept = read(&mut client, &format!("vm://screenshot/{id}"));
    assert_eq!(kept, ("image/png".to_owned(), bytes.clone()));
    // The screen has not changed since.
    let now = read(&mut client, "vm://screen/test");
    assert_eq!(now, ("image/png".to_owned(), bytes));
}

#[test]
fn a_region_is_cut_out_and_jpeg_is_jpeg() {
    let (_home, mut client) = start(&[]);
    let whole = shot(&client.done("take_screenshot", json!({}))).1;
    let whole = Picture::decode("image/png", &whole).unwrap();
    let region = Region {
        x0: 100,
        y0: 200,
        x1: 300,
        y1: 250,
    };
    let reply = client.done("take_screenshot", json!({"region": [100, 200, 300, 250]}));
    assert!(
        reply.text.contains(
            ": region [100, 200, 300, 250] of the full screenshot (1120×832 pixels, native size). "
        ),
        "{}",
        reply.text
    );
    let part = Picture::decode("image/png", &shot(&reply).1).unwrap();
    assert_eq!(part.size().to_string(), "200×50");
    assert!(part.rgb() == whole.crop(region).rgb());

    let reply = client.done("take_screenshot", json!({"format": "jpeg"}));
    assert_eq!(reply.pictures[0].0, "image/jpeg");
    let (id, bytes) = shot(&reply);
    assert!(bytes.starts_with(&[0xff, 0xd8, 0xff]));
    let kept = read(&mut client, &format!("vm://screenshot/{id}"));
    assert_eq!(kept, ("image/jpeg".to_owned(), bytes));
}

#[test]
fn a_large_screen_is_scaled_and_saved_at_its_native_size() {
    let home = TempDir::new().unwrap();
    let config = home.path().join("config/virtpilot/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "[vm.test]\nlong_edge = 560\n").unwrap();
    let mut command = binary(home.path());
    command.args(["--uri", test_driver::URI]);
    let mut client = Client::start(command);
    client.done("project_init", json!({"name": "scaled"}));
    let reply = client.done("take_screenshot", json!({}));
    assert!(
        reply
            .text
            .contains(": 560×416 pixels, scaled from 1120×832. "),
        "{}",
        reply.text
    );
    let (id, bytes) = shot(&reply);
    assert_eq!(size("image/png", &bytes).unwrap().to_string(), "560×416");
    let (_, saved) = read(&mut client, &format!("vm://screenshot/{id}"));
    assert_eq!(size("image/png", &saved).unwrap().to_string(), "1120×832");
    // A region means the shown picture, and is shown at native resolution.
    let reply = client.done("take_screenshot", json!({"region": [0, 0, 560, 10]}));
    assert_eq!(
        size("image/png", &shot(&reply).1).unwrap().to_string(),
        "1120×20"
    );
    let text = client.fails("take_screenshot", json!({"region": [0, 0, 561, 10]}));
    assert!(
        text.contains("not inside the screenshot of 560×416 pixels"),
        "{text}"
    );
}

#[test]
fn the_last_screenshots_are_kept_listed_and_completed() {
    let (_home, mut client) = start(&[]);
    assert_eq!(
        uris(&mut client),
        [""; 0],
        "no VM is known before libvirt is asked"
    );
    let ids: Vec<_> = (0..34)
        .map(|_| shot(&client.done("take_screenshot", json!({"region": [0, 0, 2, 2]}))).0)
        .collect();
    let mut expected = vec!["vm://screen/test".to_owned()];
    expected.extend(
        ids[2..]
            .iter()
            .rev()
            .map(|id| format!("vm://screenshot/{id}")),
    );
    assert_eq!(uris(&mut client), expected);
    for (id, is_there) in [
        (&ids[0], false),
        (&ids[1], false),
        (&ids[2], true),
        (&ids[33], true),
    ] {
        let answer = client.request(
            "resources/read",
            json!({"uri": format!("vm://screenshot/{id}")}),
        );
        assert_eq!(answer.get("result").is_some(), is_there, "{answer}");
    }
    let template = "vm://screenshot/{id}";
    let all = complete(&mut client, template, "id", "");
    assert_eq!(all.as_array().unwrap().len(), 32);
    assert_eq!(
        complete(&mut client, template, "id", &ids[33]),
        json!([ids[33]])
    );
    assert_eq!(complete(&mut client, template, "id", "nothing"), json!([]));
    assert_eq!(complete(&mut client, template, "vm", ""), json!([]));
    assert_eq!(
        complete(&mut client, "vm://screen/{vm}", "vm", "te"),
        json!(["test"])
    );
    assert_eq!(
        complete(&mut client, "vm://screen/{vm}", "vm", "x"),
        json!([])
    );
}

#[test]
fn a_projects_screenshots_are_resources_too() {
    let (home, mut client) = start(&[]);
    let path = client
        .done("project_init", json!({"name": "kept"}))
        .data
        .unwrap();
    let path = std::path::PathBuf::from(path["path"].as_str().unwrap());
    let (id, bytes) = shot(&client.done("take_screenshot", json!({})));
    let file = path.join(format!("screenshots/{id}.png"));
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    let uri = format!("vm://screenshot/{id}");
    assert!(uris(&mut client).contains(&uri));
    assert_eq!(read(&mut client, &uri).1, bytes);
    drop(client);

    // Another server of the same tree finds it without loading the project.
    let mut command = binary(home.path());
    command.args(["--uri", test_driver::URI]);
    let mut other = Client::start(command);
    assert_eq!(read(&mut other, &uri).1, bytes);
}

/// The screenshots of a list: id, MIME type and where it is from.
fn screenshots(client: &mut Client) -> Vec<(String, String, String)> {
    let listed = client.request("resources/list", json!({}));
    let resources = listed["result"]["resources"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    resources
        .iter()
        .filter_map(|it| {
            let id = it["uri"].as_str()?.strip_prefix("vm://screenshot/")?;
            let (mime, from) = (text(&it["mimeType"]), text(&it["description"]));
            Some((id.to_owned(), mime, from))
        })
        .collect()
}

#[test]
fn screenshots_of_earlier_projects_are_listed_read_and_completed() {
    let (home, mut client) = start(&[]);
    let init = |client: &mut Client, name: &str| {
        let made = client
            .done("project_init", json!({"name": name}))
            .data
            .unwrap();
        std::path::PathBuf::from(made["path"].as_str().unwrap())
    };
    let look = |client: &mut Client| shot(&client.done("take_screenshot", json!({})));
    let in_memory = look(&mut client).0;
    let first = init(&mut client, "first");
    let (old, old_bytes) = look(&mut client);
    init(&mut client, "second");
    let new = look(&mut client).0;
    client.done("project_load", json!({"project_path": first}));
    let newest = look(&mut client).0;

    let folder = first.file_name().unwrap().to_str().unwrap().to_owned();
    let of_first = format!("Saved in project {folder}.");
    let of_second = of_first.replace("_first.", "_second.");
    let png = |id: &str, from: &str| (id.to_owned(), "image/png".to_owned(), from.to_owned());
    let saved = [
        png(&newest, &of_first),
        png(&new, &of_second),
        png(&old, &of_first),
    ];
    let listed = screenshots(&mut client);
    // The seconds in a folder's name may differ.
    let plain = |id: &String| listed.iter().find(|it| it.0 == *id).unwrap().2.clone();
    assert!(plain(&new).ends_with("_second."), "{listed:?}");
    assert_eq!(listed[0], png(&in_memory, "Of test, kept in memory."));
    let ids = |list: &[(String, String, String)]| -> Vec<_> {
        list.iter().map(|it| it.0.clone()).collect()
    };
    assert_eq!(ids(&listed[1..]), ids(&saved));
    assert_eq!((&listed[1], &listed[3]), (&saved[0], &saved[2]));
    drop(client);

    // A server without a project knows them as well.
    let mut command = binary(home.path());
    command.args(["--uri", test_driver::URI]);
    let mut other = Client::start(command);
    assert_eq!(screenshots(&mut other), listed[1..]);
    assert_eq!(
        read(&mut other, &format!("vm://screenshot/{old}")).1,
        old_bytes
    );
    let template = "vm://screenshot/{id}";
    assert_eq!(
        complete(&mut other, template, "id", ""),
        json!([newest, new, old])
    );
    assert_eq!(complete(&mut other, template, "id", &old), json!([old]));

    // However many there are, a list has a hundred; what is older is still completed and read.
    for at in 0..120 {
        let name = format!("screenshots/20990101-000000-000{at:03}.png");
        std::fs::write(first.join(name), &old_bytes).unwrap();
    }
    let listed = ids(&screenshots(&mut other));
    assert_eq!(listed.len(), 100);
    assert_eq!(listed[0], "20990101-000000-000119");
    assert_eq!(listed[99], "20990101-000000-000020");
    assert_eq!(complete(&mut other, template, "id", &old), json!([old]));
    read(&mut other, "vm://screenshot/20990101-000000-000000");

    // Where nothing may be viewed, there are none.
    let mut command = binary(home.path());
    command.args(["--uri", test_driver::URI, "--allow", "shell"]);
    let mut blind = Client::start(command);
    assert_eq!(screenshots(&mut blind), []);
}

#[test]
fn a_project_that_cannot_be_written_costs_no_picture() {
    let (_home, mut client) = start(&[]);
    let made = client
        .done("project_init", json!({"name": "gone"}))
        .data
        .unwrap();
    std::fs::remove_dir_all(made["path"].as_str().unwrap()).unwrap();
    let reply = client.done("take_screenshot", json!({}));
    let (id, bytes) = shot(&reply);
    assert!(
        reply.text.contains(" It was not saved in the project: "),
        "{}",
        reply.text
    );
    assert_eq!(read(&mut client, &format!("vm://screenshot/{id}")).1, bytes);
}

#[test]
fn templates_and_names_with_a_slash() {
    let home = TempDir::new().unwrap();
    let mut command = binary(home.path());
    let uri = test_driver::host_with(home.path(), &[("дом 50%", "1"), ("plain", "1")]);
    command.args(["--uri", &uri, "--vm", "дом 50%", "--vm", "plain"]);
    let mut client = Client::start(command);
    let listed = client.request("resources/templates/list", json!({}));
    let templates: Vec<_> = listed["result"]["resourceTemplates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["uriTemplate"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        templates,
        [
            "vm://screenshot/{id}",
            "vm://screen/{vm}",
            "vm://job/{id}/{stream}"
        ]
    );
    let house = "vm://screen/%D0%B4%D0%BE%D0%BC%2050%25";
    assert_eq!(uris(&mut client), ["vm://screen/plain", house]);
    let (mime, _) = read(&mut client, house);
    assert_eq!(mime, "image/png");
    let completed = complete(&mut client, "vm://screen/{vm}", "vm", "%D0");
    assert_eq!(completed, json!(["%D0%B4%D0%BE%D0%BC%2050%25"]));
    for (name, message) in [
        ("a%2Fb", "There is no VM named `a/b`"),
        ("%zz", "That is no VM's name."),
        ("", "That is no VM's name."),
    ] {
        let uri = format!("vm://screen/{name}");
        let error = client.request("resources/read", json!({"uri": uri}))["error"].take();
        assert_eq!(error["code"], -32002);
        assert!(
            error["message"].as_str().unwrap().starts_with(message),
            "{error}"
        );
    }
}

#[test]
fn a_batch_shows_what_it_saw_and_how_it_ended() {
    let (_home, mut client) = start(&[]);
    let fails = json!({"action": "click"});
    let press = json!({"action": "press_keys", "keys": ["a"]});
    let look = json!({"action": "take_screenshot", "region": [0, 0, 20, 10]});
    let cases = [
        (json!([press, look]), "none", 1, "2 of 2 actions were done."),
        (json!([press, look]), "end", 2, "2 of 2 actions were done."),
        (
            json!([press, look]),
            "on_error",
            1,
            "2 of 2 actions were done.",
        ),
        (
            json!([press, fails, look]),
            "none",
            0,
            "1 of 3 actions were done.",
        ),
        (
            json!([press, fails, look]),
            "on_error",
            1,
            "1 of 3 actions were done.",
        ),
        (
            json!([look, look, fails, press]),
            "end",
            3,
            "2 of 4 actions were done.",
        ),
    ];
    for (actions, screenshot, pictures, text) in cases {
        let failing = actions.as_array().unwrap().contains(&fails);
        let reply = client.call(
            "run_actions",
            json!({"actions": actions, "screenshot": screenshot}),
        );
        assert!(reply.text.starts_with(text), "{}", reply.text);
        assert_eq!(reply.is_error, failing, "{}", reply.text);
        assert_eq!(
            reply.pictures.len(),
            pictures,
            "{screenshot}: {}",
            reply.text
        );
        assert_eq!(reply.data, None);
        assert_eq!(
            reply.text.matches("Resource vm://screenshot/").count(),
            pictures
        );
    }
    let reply = client.call(
        "run_actions",
        json!({"actions": [press, fails, press, look]}),
    );
    let lines: Vec<_> = reply.text.lines().collect();
    assert_eq!(lines[1], "1. press_keys: done. Pressed a.");
    assert!(lines[2].starts_with("2. click: failed. The hypervisor of `test` cannot send input"));
    assert!(lines.contains(&"3. press_keys: not run."), "{}", reply.text);
    assert!(
        lines.contains(&"4. take_screenshot: not run."),
        "{}",
        reply.text
    );
}

#[test]
fn the_working_habits_are_a_prompt() {
    let (_home, mut client) = start(&[]);
    let listed = client.request("prompts/list", json!({}));
    let prompts = listed["result"]["prompts"].as_array().unwrap();
    assert_eq!(prompts.len(), 1);
    assert_eq!(prompts[0]["name"], "working_habits");
    assert_eq!(prompts[0]["title"], "Working habits for driving a VM");
    let got = client.request("prompts/get", json!({"name": "working_habits"}));
    let message = &got["result"]["messages"][0];
    assert_eq!(message["role"], "user");
    let text = message["content"]["text"].as_str().unwrap();
    for part in [
        "Look before you act",
        "A click is no proof of focus",
        "Ctrl+L",
        "run_actions",
        ":e!",
    ] {
        assert!(text.contains(part), "{part}");
    }
}
