//! A walk through a graphical editor as a person takes it: menus, selection by drag, shortcuts, the save
//! dialog. All that a model would do goes through MCP; the pictures of every step stay in the target folder.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    guest::{Guest, HEIGHT, WIDTH},
    mcp::Client,
};

/// The editor's home folder, and what it saves there.
const HOME: &str = "/tmp/virtpilot-walk";
const FILE: &str = "shopping.txt";
const SAVED: &str = "Apples and pears\nSeven eggs\nBread and butter\nHoney\n";

/// Where on the screen is what: the task bar's buttons, and in a window that fills it the bar of menus, the
/// text or an open menu, and what the save dialog has at its upper and lower edges.
const TASKS: [i32; 4] = [510, 775, WIDTH, HEIGHT];
const MENUS: [i32; 4] = [0, 20, 300, 43];
const TEXT: [i32; 4] = [0, 45, 240, 250];
const NAME: [i32; 4] = [96, 20, 600, 70];
const BUTTONS: [i32; 4] = [900, 720, 1200, 773];

/// The editor, as a model sees it.
struct Walk {
    client: Client,
    looks: usize,
}

/// Edges of what was read, in pixels of the screen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    left: i64,
    top: i64,
    right: i64,
    bottom: i64,
}

impl Seen {
    fn middle(self) -> (i64, i64) {
        (
            i64::midpoint(self.left, self.right),
            i64::midpoint(self.top, self.bottom),
        )
    }
}

impl Walk {
    /// A picture of the step that was just made, once the screen is still.
    fn look(&mut self) {
        let reply = self.client.done("take_screenshot", json!({"settle": 5000}));
        assert_eq!(reply.pictures.len(), 1, "{}", reply.text);
        self.looks += 1;
    }

    fn wait_for(&mut self, condition: &Value) {
        // GTK under emulation on a busy host takes half a minute to start.
        let arguments = json!({"conditions": [condition], "timeout": 80});
        self.client.done("wait_for", arguments);
    }

    /// Waits until a part of the screen says this, and tells where. To read a part is sooner done.
    fn see(&mut self, pattern: &str, region: [i32; 4]) -> Seen {
        self.wait_for(&json!({"condition": "text", "pattern": pattern, "region": region}));
        let what = json!({"pattern": pattern, "region": region});
        let reply = self.client.done("screen_text", what);
        let data = reply.data.expect("it gives data");
        let found = data["matches"][0]["box"].as_array();
        let edges = found.unwrap_or_else(|| panic!("{pattern} is gone: {}", reply.text));
        let edge = |at: usize| edges[at].as_i64().unwrap();
        Seen {
            left: edge(0),
            top: edge(1),
            right: edge(2),
            bottom: edge(3),
        }
    }

    fn run(&mut self, actions: &Value) {
        self.client.done("run_actions", json!({"actions": actions}));
    }

    fn click(&mut self, seen: Seen) {
        let (x, y) = seen.middle();
        self.client.done("click", json!({"x": x, "y": y}));
    }

    fn press(&mut self, keys: &[&str]) {
        self.client.done("press_keys", json!({"keys": keys}));
    }

    fn type_text(&mut self, text: &str) {
        self.client.done("type_text", json!({"text": text}));
    }
}

#[test]
fn a_text_is_written_rearranged_and_saved_as_a_person_does_it() {
    let mut guest = Guest::enter();
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("editor");
    let _ = fs::remove_dir_all(&data);
    let mut command = guest.server();
    command.arg("--data-dir").arg(&data);
    let mut walk = Walk {
        client: Client::start(command),
        looks: 0,
    };
    let made = walk.client.done("project_init", json!({"name": "editor"}));
    let project = made.data.unwrap()["path"].as_str().unwrap().to_owned();
    guest.run(&format!("rm -rf {HOME} && install -d -o desktop {HOME}"));
    let editor = format!("cd {HOME} && HOME={HOME} exec l3afpad");
    guest.start("editor", &["sh", "-c", &editor]);

    walk.see("Untitled", TASKS);
    // Larger, so that nothing else is in sight.
    walk.press(&["Alt", "F10"]);
    let file_menu = walk.see("File", MENUS);
    walk.look();

    walk.type_text("and pears\nBread and butter\nSeven eggs\n");
    let first = walk.see("and pears", TEXT);
    let third = walk.see("(?i)seven", TEXT);
    let second = walk.see("(?i)bread", TEXT);
    walk.look();

    // From before the second line to before the third one: the line with its end. Each step waits for what
    // it changes, since the editor may be seconds behind.
    let line = json!([second.left, second.top, second.right, second.bottom]);
    let change = json!({"condition": "change", "region": line, "share": 0.2});
    let shows = json!({"action": "wait_for", "conditions": [change], "timeout": 60});
    walk.run(&json!([
        {
            "action": "drag",
            "from_x": second.left - 1,
            "from_y": second.middle().1,
            "to_x": third.left - 1,
            "to_y": third.middle().1,
            "duration_ms": 1000,
        },
        shows,
    ]));
    walk.look();
    walk.run(&json!([{"action": "press_keys", "keys": ["Ctrl", "x"]}, shows]));
    walk.look();
    let end = json!({"action": "press_keys", "keys": ["Ctrl", "End"]});
    let paste = json!({"action": "press_keys", "keys": ["Ctrl", "v"]});
    walk.run(&json!([end, paste]));
    walk.see("(?i)bread", TEXT);
    walk.type_text("Honey\nApples ");
    walk.see("(?i)honey", TEXT);
    let word = walk.see("(?i)apples", TEXT);
    walk.look();

    // What is selected is dropped in front of the first line.
    walk.press(&["Shift", "Home"]);
    let (from_x, from_y) = word.middle();
    walk.client.done(
        "drag",
        json!({
            "from_x": from_x,
            "from_y": from_y,
            "to_x": first.left - 1,
            "to_y": first.middle().1,
            "duration_ms": 1000,
        }),
    );
    // Where it is, nobody asks: the blinking cursor stands in it now.
    walk.wait_for(
        &json!({"condition": "text", "pattern": "(?i)apples.{0,3}and pears", "region": TEXT}),
    );
    walk.look();

    walk.click(file_menu);
    let save_as = walk.see("Save As", TEXT);
    walk.look();
    walk.click(save_as);
    walk.see("Cancel", BUTTONS);
    walk.wait_for(&json!({"condition": "stable"}));
    walk.look();
    walk.type_text(FILE);
    walk.see("(?i)shopping", NAME);
    walk.look();
    walk.press(&["Return"]);
    // The dialog hid it.
    walk.see("Options", MENUS);
    walk.look();
    let read = format!("cat {HOME}/{FILE}");
    guest.until("the file is saved", |guest| {
        (guest.try_run(&read).stdout == SAVED).then_some(())
    });

    walk.press(&["Ctrl", "q"]);
    guest.until("the editor has ended", |guest| {
        (guest.try_run("pgrep -x -r D,R,S l3afpad").code == 1).then_some(())
    });
    guest.assert_nothing_down();
    let saved = fs::read_dir(Path::new(&project).join("screenshots")).unwrap();
    assert_eq!(saved.count(), walk.looks, "pictures in {project}");
    guest.run(&format!("rm -r {HOME}"));
}
