use std::{collections::BTreeSet, os::unix::fs::symlink, sync::Barrier, thread};

use tempfile::TempDir;

use super::*;
use crate::model::ImageFormat;

const SAMPLE: &str = "20261122-082825_sample task";

fn projects() -> (TempDir, Projects) {
    let data_dir = tempfile::tempdir().unwrap();
    let projects = Projects::new(data_dir.path());
    (data_dir, projects)
}

/// A data folder with the project that the Python server left.
fn with_sample() -> (TempDir, Projects) {
    let (data_dir, projects) = projects();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/python-project");
    copy(&samples, projects.folder());
    (data_dir, projects)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files and folders below, as paths from there; a folder ends in `/`.
fn tree(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
            if path.is_dir() {
                found.insert(format!("{name}/"));
                folders.push(path);
            } else {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

/// The text with every run of digits that a time is made of put as `T`.
fn without_times(text: &str) -> String {
    let mut text = text.to_owned();
    let is_time = |c: char| c.is_ascii_digit() || "-: ".contains(c);
    while let Some(at) = text.find("[20") {
        let end = text[at + 1..].find(|c| !is_time(c)).unwrap() + at + 1;
        text.replace_range(at + 1..end, "T");
    }
    text
}

fn id(text: &str) -> ScreenshotId {
    text.parse().unwrap()
}

#[test]
fn a_new_project_has_its_whole_tree_at_once() {
    let (_data_dir, projects) = projects();
    let project = projects.create("Ärger: a/b", "What for").unwrap();
    let created_at = project.metadata().created_at.clone();
    assert_eq!(project.folder(), format!("{created_at}_Ärger_ a_b"));
    assert_eq!(
        tree(project.path()),
        [
            "advice/",
            "logs/",
            "logs/actions.jsonl",
            "logs/project.log",
            "metadata.json",
            "results/",
            "screenshots/",
        ]
        .map(str::to_owned)
        .into()
    );
    assert_eq!(
        fs::read_to_string(project.path().join("metadata.json")).unwrap(),
        format!(
            "{{\n  \"name\": \"Ärger: a/b\",\n  \"created_at\": \"{created_at}\",\n  \
             \"description\": \"What for\"\n}}"
        )
    );
    let log = fs::read_to_string(project.path().join("logs/project.log")).unwrap();
    assert_eq!(without_times(&log), "[T] [INFO] Project initialized\n");
    assert_eq!(tree(projects.folder()).len(), 8);
    assert_eq!(
        projects.create(" ", "").unwrap_err().to_string(),
        "the project name is empty"
    );
}

#[test]
fn permissions_are_those_of_the_umask() {
    let (data_dir, projects) = projects();
    let project = projects.create("x", "").unwrap();
    let result = project.save_result("x", b"x", true).unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    let (file, folder) = (data_dir.path().join("file"), data_dir.path().join("folder"));
    fs::write(&file, "").unwrap();
    fs::create_dir(&folder).unwrap();
    for path in [result, project.path().join("metadata.json")] {
        assert_eq!(mode(&path), mode(&file));
    }
    for path in [project.path().to_owned(), project.path().join("results")] {
        assert_eq!(mode(&path), mode(&folder));
    }
}

#[test]
fn projects_of_one_name_made_at_once_get_folders_of_their_own() {
    let (_data_dir, projects) = projects();
    let barrier = Barrier::new(4);
    let made: Vec<Project> = thread::scope(|scope| {
        let make = || {
            barrier.wait();
            (0..3)
                .map(|_| projects.create("same", "").unwrap())
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let paths: BTreeSet<_> = made.iter().map(Project::path).collect();
    assert_eq!(paths.len(), 12);
    assert_eq!(fs::read_dir(projects.folder()).unwrap().count(), 12);
    for project in &made {
        let stem = format!("{}_same", project.metadata().created_at);
        let folder = project.folder();
        let rest = folder.strip_prefix(&stem).unwrap();
        let is_numbered = rest
            .strip_prefix('_')
            .is_some_and(|number| number.parse::<u32>().is_ok());
        assert!(rest.is_empty() || is_numbered, "{folder}");
        assert_eq!(project.metadata().name, "same");
    }
}

#[test]
fn loads_a_project_of_the_python_server() {
    let (_data_dir, projects) = with_sample();
    let project = projects.load(SAMPLE, Path::new("/")).unwrap();
    assert_eq!(
        *project.metadata(),
        Metadata {
            name: "sample task".into(),
            created_at: "20261122-082825".into(),
            description: "A project as the Python server leaves it".into(),
        }
    );
    assert_eq!(
        project.info().unwrap(),
        Info {
            screenshots: 1,
            results: 1,
            log_entries: 6,
            advice: 1
        }
    );
    assert_eq!(
        project.read_advice().unwrap(),
        [Advice {
            title: "Focus in Citrix: use keys".into(),
            file: "20261122-082825_Focus in Citrix_ use keys.md".into(),
            content: "Click, then Alt+Tab.\nLook before typing.\n".into(),
        }]
    );
    assert_eq!(
        project.read_logs(2, None).unwrap(),
        [
            "[2026-11-22 08:28:25] [INFO] TOOL: click(button=left, count=1)",
            "[2026-11-22 08:28:25] [ERROR] ERROR in ssh_execute: timed out",
        ]
    );
    assert_eq!(
        project.read_logs(50, Some(Level::Warning)).unwrap(),
        ["[2026-11-22 08:28:25] [WARNING] half way"]
    );
    let picture = id("20261122-062613-660053");
    let found = project.screenshot(&picture).unwrap().unwrap();
    assert_eq!(found.format, ImageFormat::Png);
    assert_eq!(found.mime(), "image/png");
    assert_eq!(found.bytes, fs::read(found.path).unwrap());
    assert_eq!(project.screenshots().unwrap(), [picture]);

    project
        .append_action(&serde_json::json!({"tool": "click"}))
        .unwrap();
    let actions = project.path().join("logs/actions.jsonl");
    assert_eq!(
        fs::read_to_string(actions).unwrap(),
        "{\"tool\":\"click\"}\n"
    );
}

#[test]
fn advice_is_written_as_the_python_server_did() {
    let (_data_dir, projects) = with_sample();
    let sample = projects.load(SAMPLE, Path::new("/")).unwrap();
    let title = "Focus in Citrix: use keys";
    let content = "Click, then Alt+Tab.\nLook before typing.";
    let written = sample.save_advice(title, content).unwrap();
    let name = written.file_name().unwrap().to_str().unwrap();
    assert!(name.ends_with("_Focus in Citrix_ use keys.md"), "{name}");
    let old = sample
        .path()
        .join("advice/20261122-082825_Focus in Citrix_ use keys.md");
    assert_eq!(fs::read(written).unwrap(), fs::read(old).unwrap());
}

#[test]
fn missing_folders_and_fields_are_made_up_for() {
    let (data_dir, projects) = projects();
    let bare = data_dir.path().join("bare");
    fs::create_dir(&bare).unwrap();
    fs::write(
        bare.join("metadata.json"),
        r#"{"name": "bare", "extra": [1]}"#,
    )
    .unwrap();

    let project = projects
        .load(bare.to_str().unwrap(), Path::new("/"))
        .unwrap();
    assert_eq!(project.metadata().description, "");
    let nothing = Info {
        screenshots: 0,
        results: 0,
        log_entries: 0,
        advice: 0,
    };
    assert_eq!(project.info().unwrap(), nothing);
    assert_eq!(project.read_logs(50, None).unwrap(), [""; 0]);
    assert_eq!(project.read_advice().unwrap(), []);
    assert_eq!(project.screenshot(&id("1-2")).unwrap(), None);

    project.log(Level::Error, "failed").unwrap();
    project.append_action(&1).unwrap();
    project.save_result("r", b"", false).unwrap();
    project.save_advice("a", "").unwrap();
    project
        .save_screenshot(id("1-2"), ImageFormat::Jpeg, b"jpeg")
        .unwrap();
    let one = Info {
        screenshots: 1,
        results: 1,
        log_entries: 1,
        advice: 1,
    };
    assert_eq!(project.info().unwrap(), one);
}

#[test]
fn a_project_is_found_by_absolute_path_relative_path_and_folder_name() {
    let (data_dir, projects) = with_sample();
    let expected = fs::canonicalize(projects.folder().join(SAMPLE)).unwrap();
    let absolute = expected.to_str().unwrap();
    let relative = format!("projects/{SAMPLE}");
    // A folder of that name in the working directory does not hide the project.
    let elsewhere = data_dir.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join(SAMPLE)).unwrap();
    let cases = [
        (absolute, Path::new("/")),
        (&*relative, data_dir.path()),
        (SAMPLE, Path::new("/")),
        (SAMPLE, projects.folder()),
        (SAMPLE, &elsewhere),
        (".", &expected),
    ];
    for (path, working_dir) in cases {
        let project = projects.load(path, working_dir).unwrap();
        assert_eq!(
            project.path(),
            expected,
            "{path} from {}",
            working_dir.display()
        );
    }
}

#[test]
fn what_cannot_be_loaded_is_told_apart() {
    let (data_dir, projects) = with_sample();
    let newer = projects.folder().join("20270101-000000_newer");
    fs::create_dir(&newer).unwrap();
    let text = |path: &str| {
        let error = projects.load(path, data_dir.path()).unwrap_err();
        format!("{error} | {}", error.hint())
    };
    assert_eq!(
        text("SAMPLE"),
        "there is no project `SAMPLE` | Give a folder name or a path, as `project_list` shows them, \
         for example: 20261122-082825_sample task."
    );
    assert_eq!(
        text("other\0"),
        "there is no project `other\\0` | Give a folder name or a path, as `project_list` shows \
         them, for example: 20270101-000000_newer, 20261122-082825_sample task."
    );
    assert!(text("").starts_with("the project path is empty | "));
    assert!(text("../x").starts_with("there is no project `../x` | "));

    let real = fs::canonicalize(&newer).unwrap();
    assert!(text("20270101-000000_newer").starts_with(&format!(
        "{} is no project: it has no metadata.json | ",
        real.display()
    )));
    fs::write(newer.join("metadata.json"), "{").unwrap();
    assert!(text("20270101-000000_newer").starts_with(&format!(
        "{}/metadata.json cannot be understood | ",
        real.display()
    )));

    let empty = Projects::new(Path::new("/nowhere"))
        .load("x", Path::new("/"))
        .unwrap_err();
    assert_eq!(
        empty.hint(),
        "There are no projects yet: make one with `project_init`."
    );
}

#[test]
fn lists_projects_newest_first_with_broken_ones_among_them() {
    let (_data_dir, projects) = with_sample();
    let newest = projects.create("newest", "now").unwrap();
    for name in [
        "20270101-000000_empty",
        "20250101-000000_broken",
        ".tmphalf",
    ] {
        fs::create_dir(projects.folder().join(name)).unwrap();
    }
    let broken = projects
        .folder()
        .join("20250101-000000_broken/metadata.json");
    fs::write(broken, "[]").unwrap();
    fs::write(projects.folder().join("a file"), "").unwrap();

    let list = projects.list().unwrap();
    let mut expected = vec![
        (newest.folder(), Some("newest")),
        (SAMPLE.to_owned(), Some("sample task")),
        ("20270101-000000_empty".to_owned(), None),
        ("20250101-000000_broken".to_owned(), None),
    ];
    expected.sort_by(|a, b| b.cmp(a));
    let found: Vec<_> = list
        .iter()
        .map(|summary| {
            let name = summary
                .metadata
                .as_ref()
                .ok()
                .map(|metadata| &*metadata.name);
            (summary.folder.clone(), name)
        })
        .collect();
    assert_eq!(found, expected);
    assert!(
        Projects::new(Path::new("/nowhere"))
            .list()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_result_is_replaced_or_kept_as_asked() {
    let (_data_dir, projects) = projects();
    let project = projects.create("x", "").unwrap();
    let path = project.save_result("out.txt", b"first", false).unwrap();
    assert_eq!(path, project.path().join("results/out.txt"));
    assert_eq!(
        project
            .save_result("out.txt", b"second", false)
            .unwrap_err()
            .to_string(),
        format!("{} exists already", path.display())
    );
    assert_eq!(fs::read(&path).unwrap(), b"first");
    project.save_result("out.txt", b"third", true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"third");
    assert!(project.save_result("../out.txt", b"", true).is_err());
    assert_eq!(
        tree(&project.path().join("results")),
        ["out.txt".to_owned()].into()
    );
}

#[test]
fn of_two_that_save_one_new_result_one_wins() {
    let (_data_dir, projects) = projects();
    let project = projects.create("x", "").unwrap();
    let barrier = Barrier::new(8);
    let wins: Vec<_> = thread::scope(|scope| {
        let save = |number: u8| {
            barrier.wait();
            project.save_result("out", &[number], false).is_ok()
        };
        let threads: Vec<_> = (0..8)
            .map(|number| scope.spawn(move || save(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let winners: Vec<_> = (0..8u8)
        .filter(|&number| wins[usize::from(number)])
        .collect();
    assert_eq!(winners.len(), 1);
    let content = fs::read(project.path().join("results/out")).unwrap();
    assert_eq!(content, winners);
}

#[test]
fn nothing_is_lost_when_two_write_at_once() {
    const EACH: usize = 100;
    let (_data_dir, projects) = projects();
    let project = projects.create("x", "").unwrap();
    thread::scope(|scope| {
        for writer in ["a", "b"] {
            let (projects, project) = (&projects, &project);
            scope.spawn(move || {
                // Each as a server of its own would.
                let project = projects.load(&project.folder(), Path::new("/")).unwrap();
                for number in 0..EACH {
                    let message = format!("{writer}{number} {}", "x".repeat(5000));
                    project.log(Level::Info, &message).unwrap();
                    project.append_action(&message).unwrap();
                    if number % 10 == 0 {
                        project.save_advice("same title", &message).unwrap();
                        let shot = ScreenshotId::now();
                        project
                            .save_screenshot(shot, ImageFormat::Png, b"png")
                            .unwrap();
                    }
                }
            });
        }
    });
    let expected: BTreeSet<_> = ["a", "b"]
        .iter()
        .flat_map(|writer| {
            (0..EACH).map(move |number| format!("{writer}{number} {}", "x".repeat(5000)))
        })
        .collect();
    let entries = project.read_logs(1000, None).unwrap();
    let messages: BTreeSet<_> = entries[1..]
        .iter()
        .map(|entry| entry.split_once("[INFO] ").unwrap().1.to_owned())
        .collect();
    assert_eq!(messages, expected);
    let actions = fs::read_to_string(project.path().join("logs/actions.jsonl")).unwrap();
    let actions: BTreeSet<String> = actions
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(actions, expected);
    assert_eq!(
        project.info().unwrap(),
        Info {
            screenshots: 20,
            results: 0,
            log_entries: 2 * EACH + 1,
            advice: 20
        }
    );
}

#[test]
fn line_counts_out_of_range_are_refused() {
    let (_data_dir, projects) = projects();
    let project = projects.create("x", "").unwrap();
    for lines in [i64::MIN, -1, 0, 10_001] {
        assert_eq!(
            project.read_logs(lines, None).unwrap_err().to_string(),
            format!("`lines` is {lines}, and must be from 1 to 10000")
        );
    }
    assert_eq!(project.read_logs(10_000, None).unwrap().len(), 1);
}

#[test]
fn screenshots_never_take_each_others_place() {
    let (_data_dir, projects) = projects();
    let project = projects.create("x", "").unwrap();
    let (first, path) = project
        .save_screenshot(id("20260101-000000-000001"), ImageFormat::Png, b"1")
        .unwrap();
    assert_eq!(first.as_str(), "20260101-000000-000001");
    assert_eq!(
        path,
        project
            .path()
            .join("screenshots/20260101-000000-000001.png")
    );
    let (second, _) = project
        .save_screenshot(first.clone(), ImageFormat::Jpeg, b"2")
        .unwrap();
    assert_ne!(first, second);
    assert_eq!(
        project.screenshots().unwrap(),
        [second.clone(), first.clone()]
    );

    let other = projects.create("y", "").unwrap();
    assert_eq!(other.screenshot(&second).unwrap(), None);
    let found = projects.find_screenshot(&second).unwrap().unwrap();
    assert_eq!(found.bytes, b"2");
    assert_eq!(found.format, ImageFormat::Jpeg);
    assert_eq!(projects.find_screenshot(&id("1-1")).unwrap(), None);
}

#[test]
fn what_is_too_large_for_a_screenshot_is_not_read() {
    let (_data_dir, projects) = projects();
    let project = projects.create("x", "").unwrap();
    let (id, path) = project
        .save_screenshot(id("20260101-000000-000001"), ImageFormat::Png, b"1")
        .unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    let told = format!("{} is too large for a screenshot", path.display());
    assert_eq!(project.screenshot(&id).unwrap_err().to_string(), told);
    assert_eq!(projects.find_screenshot(&id).unwrap_err().to_string(), told);
}

/// The pictures of a list, as `id of project`.
fn listed(taken: &[Taken]) -> Vec<String> {
    let line = |it: &Taken| format!("{} of {}", it.id, it.project);
    taken.iter().map(line).collect()
}

#[test]
fn pictures_of_all_projects_are_listed_newest_first() {
    let (data_dir, projects) = projects();
    assert_eq!(projects.screenshots(None, "", 10), []);
    let (old, new) = (
        projects.create("old", "").unwrap(),
        projects.create("new", "").unwrap(),
    );
    let save = |project: &Project, text: &str, format| {
        project.save_screenshot(id(text), format, b"x").unwrap();
    };
    save(&old, "20260101-000000-000001", ImageFormat::Png);
    save(&new, "20260102-000000-000001", ImageFormat::Jpeg);
    // Somebody has gone on with the old one.
    save(&old, "20260103-000000-000001", ImageFormat::Png);
    // What is no picture, and what leads elsewhere, is not there.
    fs::write(new.path().join("screenshots/notes.txt"), "x").unwrap();
    fs::write(
        new.path().join("screenshots/.20260109-000000-000001.png"),
        "x",
    )
    .unwrap();
    symlink("/dev/zero", new.path().join("screenshots/20260104-1.png")).unwrap();
    let linked = projects.create("linked", "").unwrap();
    fs::remove_dir(linked.path().join("screenshots")).unwrap();
    symlink(
        old.path().join("screenshots"),
        linked.path().join("screenshots"),
    )
    .unwrap();
    fs::write(projects.folder().join("no folder"), "x").unwrap();

    let (old_name, new_name) = (old.folder(), new.folder());
    let all = [
        format!("20260103-000000-000001 of {old_name}"),
        format!("20260102-000000-000001 of {new_name}"),
        format!("20260101-000000-000001 of {old_name}"),
    ];
    let taken = projects.screenshots(None, "", 10);
    assert_eq!(listed(&taken), all);
    assert_eq!(taken[1].format, ImageFormat::Jpeg);
    assert_eq!(
        listed(&projects.screenshots(Some(&old), "", 10)),
        all,
        "none twice"
    );
    assert_eq!(listed(&projects.screenshots(None, "", 2)), all[..2]);
    assert_eq!(listed(&projects.screenshots(None, "20260101", 1)), all[2..]);

    // The active project may lie elsewhere; of two pictures of one id its own is meant.
    let elsewhere = Projects::new(&data_dir.path().join("elsewhere"));
    let active = elsewhere.create("active", "").unwrap();
    save(&active, "20260102-000000-000001", ImageFormat::Png);
    let taken = projects.screenshots(Some(&active), "", 10);
    let own = format!("20260102-000000-000001 of {}", active.folder());
    assert_eq!(
        listed(&taken),
        [all[0].as_str(), own.as_str(), all[2].as_str()]
    );
}

#[test]
fn a_list_of_pictures_looks_at_so_many_entries_and_no_more() {
    let (_data_dir, projects) = projects();
    let project = projects.create("x", "").unwrap();
    for at in 0..10 {
        let name = format!("screenshots/20260101-00000{at}.png");
        fs::write(project.path().join(name), "x").unwrap();
    }
    for (limit, found, rest) in [(0, 0, 0), (4, 4, 0), (10, 10, 0), (15, 10, 5)] {
        let mut left = limit;
        let listed = project::list_screenshots(project.path(), &mut left).unwrap();
        assert_eq!((listed.len(), left), (found, rest), "{limit}");
    }
}

#[test]
fn nothing_is_written_or_read_through_a_link() {
    let (data_dir, projects) = projects();
    let project = projects.create("x", "").unwrap();
    let secret = data_dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let outside = data_dir.path().join("outside");
    fs::create_dir(&outside).unwrap();

    // A result's name is a link: the link is replaced.
    symlink(&secret, project.path().join("results/out")).unwrap();
    assert!(project.save_result("out", b"new", false).is_err());
    let path = project.save_result("out", b"new", true).unwrap();
    assert!(!path.is_symlink());
    assert_eq!(fs::read(path).unwrap(), b"new");

    // A log is a link, with and without a target: refused, and nothing is made.
    let log = project.path().join("logs/project.log");
    for target in [&secret, &outside.join("new")] {
        fs::remove_file(&log).unwrap();
        symlink(target, &log).unwrap();
        let text = format!(
            "{} is a link or no file, and could lead out of the project",
            log.display()
        );
        assert_eq!(project.log(Level::Info, "x").unwrap_err().to_string(), text);
        assert_eq!(project.read_logs(1, None).unwrap_err().to_string(), text);
    }

    // Advice and pictures that are links are not there.
    symlink(&secret, project.path().join("advice/a.md")).unwrap();
    assert_eq!(project.read_advice().unwrap(), []);
    symlink(&secret, project.path().join("screenshots/1-1.png")).unwrap();
    assert_eq!(project.screenshots().unwrap(), []);
    assert!(project.screenshot(&id("1-1")).is_err());
    let (moved, _) = project
        .save_screenshot(id("1-1"), ImageFormat::Png, b"x")
        .unwrap();
    assert_ne!(moved, id("1-1"));

    // A whole folder is a link: refused.
    let advice = project.path().join("advice");
    fs::remove_dir_all(&advice).unwrap();
    symlink(&outside, &advice).unwrap();
    let text = format!(
        "{} is a link or no folder, and could lead out of the project",
        advice.display()
    );
    assert_eq!(project.save_advice("t", "c").unwrap_err().to_string(), text);
    assert_eq!(project.read_advice().unwrap_err().to_string(), text);

    assert_eq!(tree(&outside), BTreeSet::new());
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
}

#[test]
fn metadata_that_is_no_plain_file_is_refused_and_not_read() {
    let data = tempfile::tempdir().unwrap();
    let projects = Projects::new(data.path());
    let project = projects.create("a", "").unwrap();
    let metadata = project.path().join("metadata.json");
    fs::remove_file(&metadata).unwrap();
    // Reading on would never end.
    symlink("/dev/zero", &metadata).unwrap();
    let list = projects.list().unwrap();
    assert_eq!(list.len(), 1);
    assert!(list[0].metadata.is_err());
}
