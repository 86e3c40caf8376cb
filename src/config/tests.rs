use std::{error::Error, ffi::OsString};

use tempfile::TempDir;

use super::*;

/// A home folder with a config file of this text, if any, at the default place.
fn home_with(text: Option<&str>) -> (TempDir, Environment) {
    let home = tempfile::tempdir().unwrap();
    if let Some(text) = text {
        let folder = home.path().join(".config/virtpilot");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), text).unwrap();
    }
    let env = Environment {
        home: Some(home.path().to_owned()),
        working_dir: "/srv/here".into(),
        ..Environment::default()
    };
    (home, env)
}

fn set(env: &mut Environment, variables: &[(&str, &str)]) {
    env.variables = variables
        .iter()
        .map(|&(name, value)| (name.to_owned(), OsString::from(value)))
        .collect();
}

fn vm(name: &str) -> VmName {
    name.parse().unwrap()
}

fn grants(capabilities: &[Capability]) -> Grants {
    capabilities.iter().copied().collect()
}

/// The config of a file of this text, with nothing else said.
fn load(text: &str) -> Result<Config, ConfigError> {
    let (_home, env) = home_with(Some(text));
    Config::load(Overrides::default(), &env)
}

/// The error's text, with the config file's path as `FILE`.
fn error_of(text: &str) -> String {
    let (home, env) = home_with(Some(text));
    let file = home.path().join(".config/virtpilot/config.toml");
    let error = Config::load(Overrides::default(), &env).unwrap_err();
    error.to_string().replace(file.to_str().unwrap(), "FILE")
}

#[test]
fn without_anything_said_the_defaults_hold() {
    let (home, env) = home_with(None);
    let config = Config::load(Overrides::default(), &env).unwrap();
    assert_eq!(config.uri, "qemu:///system");
    assert_eq!(config.default_vm, None);
    assert_eq!(config.vms, BTreeMap::new());
    assert_eq!(config.default_ssh, SshConfig::default());
    assert_eq!(config.data_dir, home.path().join(".local/share/virtpilot"));
    assert_eq!(config.host_folders, Vec::<PathBuf>::new());
    assert_eq!(config.working_dir, Path::new("/srv/here"));
    assert_eq!(config.allow, Grants::standard());
    assert_eq!(config.capture, CaptureMode::Libvirt);
    assert_eq!(config.ocr_language(&vm("any")).as_str(), "eng");
    assert_eq!(config.long_edge(&vm("any")), 1568);
    assert_eq!(config.notices, Vec::<String>::new());
    assert_eq!(config.config_file, None);
}

#[test]
fn reads_every_supported_key() {
    let (home, env) = home_with(Some(
        r#"
uri = "test:///default"
default_vm = "manjaro"
data_dir = "/srv/virtpilot"
host_folders = ["/srv/images", "~/vm images"]
allow = ["view", "input"]
capture = "fast"
ocr_language = "deu+eng"
toolset = "standard"

[vm.manjaro]
keymap = "us:dvorak"
unicode = "ctrl-shift-u"
long_edge = 0
typing_interval_ms = 15
heads = [[0, 0], [1280, 64]]
ocr_language = "fra"
allow = ["view", "shell"]
ssh = { host = "192.168.122.79", port = 2222, user = "vmrobot", identity = "~/.ssh/id", passphrase = "key", host_keys = "strict" }

[vm."a.b"]

[secret.key]
env = "KEY"
"#,
    ));
    let config = Config::load(Overrides::default(), &env).unwrap();
    let file = home.path().join(".config/virtpilot/config.toml");
    assert_eq!(config.uri, "test:///default");
    assert_eq!(config.default_vm, Some(vm("manjaro")));
    assert_eq!(config.data_dir, Path::new("/srv/virtpilot"));
    assert_eq!(
        config.host_folders,
        [PathBuf::from("/srv/images"), home.path().join("vm images")]
    );
    assert_eq!(config.allow, grants(&[Capability::View, Capability::Input]));
    assert_eq!(config.capture, CaptureMode::Fast);
    assert_eq!(config.config_file.as_ref(), Some(&file));
    let manjaro = VmConfig {
        typing_interval: Some(Duration::from_millis(15)),
        keymap: Some(Keymap {
            name: "us:dvorak".into(),
            key: "vm.manjaro.keymap".into(),
            place: Place::File {
                file: file.clone(),
                line: 12,
            },
        }),
        unicode: Some(UnicodeInput::CtrlShiftU),
        long_edge: Some(0),
        allow: Some(grants(&[Capability::View, Capability::Shell])),
        heads: vec![Point { x: 0, y: 0 }, Point { x: 1280, y: 64 }],
        ocr_language: Some("fra".parse().unwrap()),
        ssh: SshConfig {
            host: Some("192.168.122.79".into()),
            port: Some(2222),
            user: Some("vmrobot".into()),
            identity: Some(home.path().join(".ssh/id")),
            passphrase: Some("key".into()),
            password: None,
            host_keys: Some(HostKeyPolicy::Strict),
        },
    };
    assert_eq!(
        config.vms,
        BTreeMap::from([(vm("manjaro"), manjaro), (vm("a.b"), VmConfig::default())])
    );
    assert_eq!(config.long_edge(&vm("manjaro")), 0);
    assert_eq!(config.keymap(&vm("manjaro")), "us:dvorak");
    assert_eq!(config.keymap(&vm("a.b")), "us");
    assert_eq!(config.keymap(&vm("other")), "us");
    let unicode = ["manjaro", "a.b", "other"].map(|name| config.unicode(&vm(name)));
    assert_eq!(unicode, [Some(UnicodeInput::CtrlShiftU), None, None]);
    assert_eq!(config.ocr_language(&vm("manjaro")).as_str(), "fra");
    assert_eq!(config.ocr_language(&vm("a.b")).as_str(), "deu+eng");
}

#[test]
fn a_layout_that_does_not_exist_is_refused_at_its_line() {
    let (home, env) = home_with(Some("[vm.a]\nkeymap = 'de'\n[vm.b]\nkeymap = 'xx'"));
    let config = Config::load(Overrides::default(), &env).unwrap();
    let check = |name: &str| match name {
        "de" => Ok(()),
        _ => Err("another".to_owned()),
    };
    let file = home.path().join(".config/virtpilot/config.toml");
    assert_eq!(
        config.check_keymaps(check).unwrap_err().to_string(),
        format!(
            "{}, line 4: `vm.b.keymap` is \"xx\"; allowed: another",
            file.display()
        )
    );
}

#[test]
fn every_refusal_of_the_file_names_key_line_and_what_is_allowed() {
    for (text, error) in FILE_REFUSALS {
        assert_eq!(error_of(text), *error, "{text}");
    }
}

const FILE_REFUSALS: &[(&str, &str)] = &[
    (
        "ur = 'x'",
        "FILE, line 1: unknown key `ur` (did you mean `uri`?); allowed here: uri, default_vm, \
             data_dir, host_folders, allow, capture, ocr_language, toolset, vm, secret",
    ),
    (
        "\n[vm.manjaro.ssh]\nport = 22\nhots = 'x'",
        "FILE, line 4: unknown key `vm.manjaro.ssh.hots` (did you mean `host`?); allowed here: \
             host, port, user, identity, passphrase, host_keys",
    ),
    (
        "[vm.'a.b']\ncolour = 'x'",
        "FILE, line 2: unknown key `vm.\"a.b\".colour`; allowed here: keymap, typing_interval_ms, unicode, \
             long_edge, allow, ocr_language, heads, ssh",
    ),
    (
        "uri = 5",
        "FILE, line 1: `uri` is 5; allowed: a libvirt URI such as \"qemu:///system\"",
    ),
    (
        "uri = ''",
        "FILE, line 1: `uri` is \"\"; allowed: a libvirt URI such as \"qemu:///system\"",
    ),
    (
        "default_vm = \"a\\nb\"",
        "FILE, line 1: `default_vm` is \"a\\nb\"; allowed: a VM's name: not empty, without NUL \
             or line break",
    ),
    (
        "data_dir = 'data'",
        "FILE, line 1: `data_dir` is \"data\"; allowed: a path that begins with `/` or `~/`",
    ),
    (
        "host_folders = '/srv'",
        "FILE, line 1: `host_folders` is \"/srv\"; allowed: a list of paths",
    ),
    (
        "host_folders = ['/srv',\n'~bob/x']",
        "FILE, line 2: `host_folders` is \"~bob/x\"; allowed: a path that begins with `/` or \
             `~/`",
    ),
    (
        "allow = ['view', 'veiw']",
        "FILE, line 1: `allow` is \"veiw\"; allowed: view, input, shell, files, console",
    ),
    (
        "allow = 'view'",
        "FILE, line 1: `allow` is \"view\"; allowed: a list of view, input, shell, files, console",
    ),
    (
        "[vm.x]\nallow = ['power']",
        "FILE, line 2: `vm.x.allow` is \"power\", which is not supported yet; allowed now: \
             view, input, shell, files, console",
    ),
    (
        "capture = 'slow'",
        "FILE, line 1: `capture` is \"slow\"; allowed: \"libvirt\" or \"fast\"",
    ),
    (
        "ocr_language = '../eng'",
        "FILE, line 1: `ocr_language` is \"../eng\"; allowed: languages as Tesseract names them, joined \
             by `+`: \"eng\", \"eng+deu\"",
    ),
    (
        "[vm.x]\nocr_language = 5",
        "FILE, line 2: `vm.x.ocr_language` is 5; allowed: languages as Tesseract names them, joined \
             by `+`: \"eng\", \"eng+deu\"",
    ),
    (
        "toolset = 'fancy'",
        "FILE, line 1: `toolset` is \"fancy\"; allowed: \"standard\" or \"computer\"",
    ),
    (
        "toolset = true",
        "FILE, line 1: `toolset` is true; allowed: \"standard\" or \"computer\"",
    ),
    (
        "[vm.x]\nkeymap = 1",
        "FILE, line 2: `vm.x.keymap` is 1; allowed: the name of a keyboard layout, such as \"de\" or \
             \"us:dvorak\"",
    ),
    (
        "[vm.x]\ntyping_interval_ms = 1001",
        "FILE, line 2: `vm.x.typing_interval_ms` is 1001; allowed: 0 (as fast as is safe) to 1000 \
             milliseconds",
    ),
    (
        "[vm.x]\ntyping_interval_ms = -1",
        "FILE, line 2: `vm.x.typing_interval_ms` is -1; allowed: 0 (as fast as is safe) to 1000 \
             milliseconds",
    ),
    (
        "[vm.x]\ntyping_interval_ms = '10'",
        "FILE, line 2: `vm.x.typing_interval_ms` is \"10\"; allowed: 0 (as fast as is safe) to 1000 \
             milliseconds",
    ),
    (
        "[vm.x]\nunicode = 'alt-x'",
        "FILE, line 2: `vm.x.unicode` is \"alt-x\"; allowed: \"ctrl-shift-u\"",
    ),
    (
        "[vm.x]\nheads = []",
        "FILE, line 2: `vm.x.heads` is a list; allowed: a list of the heads' upper left corners on the \
             guest's desktop, each [x, y] from 0 to 32767: [[0, 0], [1280, 0]]",
    ),
    (
        "[vm.x]\nheads = [[0, 0], [-1, 0]]",
        "FILE, line 2: `vm.x.heads` is a list; allowed: a list of the heads' upper left corners on the \
             guest's desktop, each [x, y] from 0 to 32767: [[0, 0], [1280, 0]]",
    ),
    (
        "[vm.x]\nheads = [[0, 0], [1280]]",
        "FILE, line 2: `vm.x.heads` is a list; allowed: a list of the heads' upper left corners on the \
             guest's desktop, each [x, y] from 0 to 32767: [[0, 0], [1280, 0]]",
    ),
    (
        "[vm.x]\nheads = [0, 1280]",
        "FILE, line 2: `vm.x.heads` is 0; allowed: a list of the heads' upper left corners on the \
             guest's desktop, each [x, y] from 0 to 32767: [[0, 0], [1280, 0]]",
    ),
    (
        "[secret.sudo]\nenvv = 'X'",
        "FILE, line 2: unknown key `secret.sudo.envv` (did you mean `env`?); allowed here: env, file, \
             command",
    ),
    // What may be the secret itself is not shown.
    (
        "[secret.key]\nenv = 'X'\n[vm.x]\nssh = { passphrase = 'hunter2' }",
        "FILE, line 4: `vm.x.ssh.passphrase` is another text; allowed: the name of a secret that stands \
             under [secret.NAME]",
    ),
    (
        "[secret]\nsudo = 'hunter2'",
        "FILE, line 2: `secret.sudo` is another text; allowed: a table with one of env, file, command",
    ),
    (
        "secret = 'hunter2'",
        "FILE, line 1: `secret` is another text; allowed: a table",
    ),
    (
        "[secret.sudo]",
        "FILE, line 1: `secret.sudo` is a table; allowed: a table with one of env, file, command",
    ),
    (
        "[secret.sudo]\nenv = 'X'\nfile = '/x'",
        "FILE, line 1: `secret.sudo` is a table; allowed: a table with one of env, file, command",
    ),
    (
        "[secret.sudo]\nenv = 'hunter2!'",
        "FILE, line 2: `secret.sudo.env` is another text; allowed: the name of an environment variable: \
             letters, digits and `_`",
    ),
    (
        "[secret.sudo]\nenv = '2X'",
        "FILE, line 2: `secret.sudo.env` is another text; allowed: the name of an environment variable: \
             letters, digits and `_`",
    ),
    (
        "[secret.sudo]\nfile = 'hunter2'",
        "FILE, line 2: `secret.sudo.file` is another text; allowed: a path that begins with `/` or `~/`",
    ),
    (
        "[secret.sudo]\ncommand = 'echo hunter2'",
        "FILE, line 2: `secret.sudo.command` is another text; allowed: a list of texts: a program and \
             its arguments",
    ),
    (
        "[secret.sudo]\ncommand = []",
        "FILE, line 2: `secret.sudo.command` is a list; allowed: a list of texts: a program and its \
             arguments",
    ),
    (
        "[secret.sudo]\ncommand = ['', 'x']",
        "FILE, line 2: `secret.sudo.command` is a list; allowed: a list of texts: a program and its \
             arguments",
    ),
    (
        "[secret.sudo]\ncommand = ['pass',\n5]",
        "FILE, line 3: `secret.sudo.command` is 5; allowed: a list of texts: a program and its \
             arguments",
    ),
    (
        "[secret.'a b']\nenv = 'X'",
        "FILE, line 1: `secret.\"a b\"` is a table; allowed: a secret's name, without spaces and control \
             characters",
    ),
    (
        "[vm.x]\nlong_edge = 99",
        "FILE, line 2: `vm.x.long_edge` is 99; allowed: 0 (native size), or 100 to 8192 pixels",
    ),
    (
        "[vm.x]\nlong_edge = -1",
        "FILE, line 2: `vm.x.long_edge` is -1; allowed: 0 (native size), or 100 to 8192 pixels",
    ),
    ("vm = 'x'", "FILE, line 1: `vm` is \"x\"; allowed: a table"),
    ("[vm]\nx = 1", "FILE, line 2: `vm.x` is 1; allowed: a table"),
    (
        "[vm.'']",
        "FILE, line 1: `vm.\"\"` is a table; allowed: a VM's name: not empty, without NUL or \
             line break",
    ),
    (
        "[vm.x]\nssh.port = 0",
        "FILE, line 2: `vm.x.ssh.port` is 0; allowed: a port, 1 to 65535",
    ),
    (
        "[vm.x]\nssh.port = 65_536",
        "FILE, line 2: `vm.x.ssh.port` is 65536; allowed: a port, 1 to 65535",
    ),
    (
        "[vm.x]\nssh.host = 'a b'",
        "FILE, line 2: `vm.x.ssh.host` is \"a b\"; allowed: a host name or address, without \
             spaces",
    ),
    (
        "[vm.x]\nssh.host_keys = 'off'",
        "FILE, line 2: `vm.x.ssh.host_keys` is \"off\"; allowed: \"accept-new\" or \"strict\"",
    ),
    (
        "uri = 'a'\nuri = 'b'",
        "FILE, line 2: not valid TOML: duplicate key",
    ),
];

#[test]
fn the_default_file_may_be_missing_but_a_named_one_may_not() {
    let (home, env) = home_with(None);
    let file = home.path().join("mine.toml");
    let overrides = Overrides {
        config: Some("~/mine.toml".into()),
        ..Overrides::default()
    };
    let error = Config::load(overrides.clone(), &env).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: cannot be read", file.display())
    );
    assert_eq!(
        error.source().unwrap().to_string(),
        "No such file or directory (os error 2)"
    );

    fs::write(&file, "uri = 'test:///default'").unwrap();
    let config = Config::load(overrides, &env).unwrap();
    assert_eq!(config.uri, "test:///default");
    assert_eq!(config.config_file.as_ref(), Some(&file));
}

#[test]
fn an_unreadable_default_file_is_an_error() {
    let (home, env) = home_with(None);
    let file = home.path().join(".config/virtpilot/config.toml");
    fs::create_dir_all(&file).unwrap();
    let error = Config::load(Overrides::default(), &env).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: cannot be read", file.display())
    );
}

#[test]
fn the_command_line_beats_the_environment_which_beats_the_file() {
    let text = "uri = 'file:///'\ndata_dir = '/file'\ndefault_vm = 'file'";
    let (home, mut env) = home_with(Some(text));
    let all = |config: &Config| {
        (
            config.uri.clone(),
            config.data_dir.clone(),
            config.default_vm.clone().unwrap().to_string(),
        )
    };

    let config = Config::load(Overrides::default(), &env).unwrap();
    assert_eq!(
        all(&config),
        ("file:///".into(), "/file".into(), "file".into())
    );

    env.dot_env = Some("VM_NAME=dotenv\nVIRTPILOT_DATA_DIR=/ignored\n".into());
    let config = Config::load(Overrides::default(), &env).unwrap();
    assert_eq!(
        all(&config),
        ("file:///".into(), "/file".into(), "dotenv".into())
    );

    set(
        &mut env,
        &[
            ("LIBVIRT_DEFAULT_URI", "env:///"),
            ("VIRTPILOT_DATA_DIR", "~/env"),
            ("VM_NAME", "env"),
        ],
    );
    let config = Config::load(Overrides::default(), &env).unwrap();
    assert_eq!(
        all(&config),
        ("env:///".into(), home.path().join("env"), "env".into())
    );

    let overrides = Overrides {
        uri: Some("line:///".into()),
        data_dir: Some("line".into()),
        vms: vec![vm("line"), vm("second")],
        ..Overrides::default()
    };
    let config = Config::load(overrides, &env).unwrap();
    assert_eq!(
        all(&config),
        ("line:///".into(), "/srv/here/line".into(), "line".into())
    );
    assert_eq!(
        config.vms.keys().collect::<Vec<_>>(),
        [&vm("line"), &vm("second")]
    );
}

#[test]
fn empty_variables_count_as_not_set() {
    let (home, mut env) = home_with(Some("uri = 'file:///'"));
    set(
        &mut env,
        &[
            ("LIBVIRT_DEFAULT_URI", ""),
            ("VIRTPILOT_DATA_DIR", ""),
            ("VM_NAME", ""),
            ("VM_HOST", ""),
            ("VM_PORT", ""),
            ("VM_PASSWORD", ""),
            ("VM_DISPLAY", ""),
            ("XDG_CONFIG_HOME", ""),
            ("XDG_DATA_HOME", ""),
        ],
    );
    env.dot_env = Some("VM_HOST=10.0.0.1\nVM_USER=\n".into());
    let config = Config::load(Overrides::default(), &env).unwrap();
    assert_eq!(config.uri, "file:///");
    assert_eq!(config.data_dir, home.path().join(".local/share/virtpilot"));
    assert_eq!(config.default_vm, None);
    assert_eq!(config.notices, Vec::<String>::new());
    let ssh = SshConfig {
        host: Some("10.0.0.1".into()),
        ..SshConfig::default()
    };
    assert_eq!(config.default_ssh, ssh);
}

#[test]
fn xdg_folders_are_used_unless_relative() {
    let (home, mut env) = home_with(Some("uri = 'home:///'"));
    let other = home.path().join("etc");
    fs::create_dir_all(other.join("virtpilot")).unwrap();
    fs::write(other.join("virtpilot/config.toml"), "uri = 'xdg:///'").unwrap();

    set(
        &mut env,
        &[
            ("XDG_CONFIG_HOME", other.to_str().unwrap()),
            ("XDG_DATA_HOME", "/data"),
        ],
    );
    let config = Config::load(Overrides::default(), &env).unwrap();
    assert_eq!(config.uri, "xdg:///");
    assert_eq!(config.data_dir, Path::new("/data/virtpilot"));

    set(
        &mut env,
        &[("XDG_CONFIG_HOME", "etc"), ("XDG_DATA_HOME", "data")],
    );
    let config = Config::load(Overrides::default(), &env).unwrap();
    assert_eq!(config.uri, "home:///");
    assert_eq!(config.data_dir, home.path().join(".local/share/virtpilot"));
}

#[test]
fn without_a_home_folder_what_needs_it_says_so() {
    let mut env = Environment {
        working_dir: "/srv/here".into(),
        ..Environment::default()
    };
    assert_eq!(
        Config::load(Overrides::default(), &env)
            .unwrap_err()
            .to_string(),
        "no place for data: the home folder is unknown; set HOME, or give --data-dir"
    );
    set(
        &mut env,
        &[("VIRTPILOT_DATA_DIR", "data"), ("VM_IDENTITY", "~/.ssh/id")],
    );
    assert_eq!(
        Config::load(Overrides::default(), &env)
            .unwrap_err()
            .to_string(),
        "environment: `VM_IDENTITY` needs the home folder, which is unknown; set HOME"
    );
    set(
        &mut env,
        &[("VIRTPILOT_DATA_DIR", "data"), ("VM_IDENTITY", "keys/id")],
    );
    let config = Config::load(Overrides::default(), &env).unwrap();
    assert_eq!(config.data_dir, Path::new("/srv/here/data"));
    assert_eq!(
        config.default_ssh.identity,
        Some("/srv/here/keys/id".into())
    );
}

#[test]
fn wrong_values_outside_the_file_name_where_they_are() {
    const CASES: &[(&str, &str, &str)] = &[
        (
            "VM_PORT",
            "abc",
            "`VM_PORT` is \"abc\"; allowed: a port, 1 to 65535",
        ),
        (
            "VM_PORT",
            "0",
            "`VM_PORT` is \"0\"; allowed: a port, 1 to 65535",
        ),
        (
            "VM_HOST",
            "a b",
            "`VM_HOST` is \"a b\"; allowed: a host name or address, without spaces",
        ),
        (
            "VM_USER",
            "a\tb",
            "`VM_USER` is \"a\\tb\"; allowed: a user name, without control characters",
        ),
        (
            "VM_NAME",
            "a\nb",
            "`VM_NAME` is \"a\\nb\"; allowed: a VM's name, without line break",
        ),
    ];
    for (name, value, error) in CASES {
        let (_home, mut env) = home_with(None);
        set(&mut env, &[(name, value)]);
        let found = Config::load(Overrides::default(), &env).unwrap_err();
        assert_eq!(found.to_string(), format!("environment: {error}"));

        env.variables.clear();
        env.dot_env = Some(format!("{name}='{value}'\n"));
        let found = Config::load(Overrides::default(), &env).unwrap_err();
        assert_eq!(found.to_string(), format!("/srv/here/.env: {error}"));
    }

    let (_home, env) = home_with(None);
    let overrides = [
        (
            Overrides {
                toolset: Some("x".into()),
                ..Overrides::default()
            },
            "command line: `--toolset` is \"x\"; allowed: \"standard\" or \"computer\"",
        ),
        (
            Overrides {
                uri: Some(String::new()),
                ..Overrides::default()
            },
            "command line: `--uri` is \"\"; allowed: a libvirt URI such as \"qemu:///system\"",
        ),
        (
            Overrides {
                data_dir: Some(PathBuf::new()),
                ..Overrides::default()
            },
            "command line: `--data-dir` is empty; allowed: a path",
        ),
    ];
    for (overrides, error) in overrides {
        let found = Config::load(overrides, &env).unwrap_err();
        assert_eq!(found.to_string(), error);
    }
}

#[test]
fn dot_env_is_read_for_vm_names_only_in_any_dialect() {
    let (_home, mut env) = home_with(None);
    env.dot_env = Some(
        "\u{feff}# comment\nexport VM_HOST=10.0.0.1\nAPP TITLE = not quoted at all\n\
         VM_USER=\"first\"\nVM_USER=robot # the last one holds\nVM_PASSWORD='a$b \"c'\n"
            .into(),
    );
    let config = Config::load(Overrides::default(), &env).unwrap();
    let ssh = SshConfig {
        host: Some("10.0.0.1".into()),
        user: Some("robot".into()),
        password: Some(Secret::new("a$b \"c")),
        ..SshConfig::default()
    };
    assert_eq!(config.default_ssh, ssh);
}

#[test]
fn a_broken_vm_line_of_dot_env_is_named_without_its_value() {
    for line in [
        "VM_PASSWORD=hunter2 hunter3",
        "A='open\nexport VM_PASSWORD = hunter2",
    ] {
        let (_home, mut env) = home_with(None);
        env.dot_env = Some(format!("VM_USER=a\n{line}\n"));
        let error = Config::load(Overrides::default(), &env).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/srv/here/.env: the line of `VM_PASSWORD` cannot be parsed; put its value in single \
             quotes, on one line"
        );
        assert!(!format!("{error:?}").contains("hunter"));
    }
}

#[test]
fn a_secret_has_one_source_and_is_not_shown() {
    let (home, env) = home_with(Some(
        "[secret.a]\nenv = 'VM_SUDO'\n[secret.\"b/c.d\"]\nfile = '~/sudo'\n[secret]\n\
         e.command = ['pass', 'hunter2', '']",
    ));
    let config = Config::load(Overrides::default(), &env).unwrap();
    let command = SecretSource::Command {
        program: "pass".into(),
        arguments: vec!["hunter2".into(), String::new()],
    };
    let expected = [
        ("a".to_owned(), SecretSource::Env("VM_SUDO".into())),
        (
            "b/c.d".to_owned(),
            SecretSource::File(home.path().join("sudo")),
        ),
        ("e".to_owned(), command),
    ];
    assert_eq!(config.secrets, BTreeMap::from(expected));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn vm_display_is_accepted_and_reported() {
    let (_home, mut env) = home_with(None);
    set(&mut env, &[("VM_DISPLAY", ":0")]);
    let config = Config::load(Overrides::default(), &env).unwrap();
    assert_eq!(
        config.notices,
        ["`VM_DISPLAY` (environment) is no longer needed: the screen is read from the host"]
    );
}

#[test]
fn ssh_settings_of_the_environment_belong_to_the_default_vm_alone() {
    let (_home, mut env) = home_with(Some(
        "[vm.a]\nssh = { host = 'a', port = 1, user = 'file' }\n[vm.b]\nssh = { host = 'b' }",
    ));
    set(
        &mut env,
        &[
            ("VM_HOST", "env"),
            ("VM_PORT", "2"),
            ("VM_PASSWORD", "hunter2"),
        ],
    );
    let config = Config::load(Overrides::default(), &env).unwrap();

    let merged = SshConfig {
        host: Some("env".into()),
        port: Some(2),
        user: Some("file".into()),
        password: Some(Secret::new("hunter2")),
        ..SshConfig::default()
    };
    assert_eq!(config.ssh_for(&vm("a"), true), merged);
    let b = SshConfig {
        host: Some("b".into()),
        ..SshConfig::default()
    };
    assert_eq!(config.ssh_for(&vm("b"), false), b);
    assert_eq!(config.ssh_for(&vm("c"), false), SshConfig::default());
    assert_eq!(config.ssh_for(&vm("c"), true), config.default_ssh);

    assert!(!format!("{config:?} {env:?}").contains("hunter2"));
}

#[test]
fn grants_follow_default_vm_naming_and_overrides() {
    const FILE: &str = "default_vm = 'main'\nallow = ['view', 'shell']\n[vm.quiet]\nallow = []\n\
                        [vm.typed]\nallow = ['input']\n[vm.plain]";
    struct Case {
        overrides: Overrides,
        main: &'static str,
        typed: &'static str,
        plain: &'static str,
        quiet: &'static str,
        lined: &'static str,
        anywhere: &'static str,
    }
    let cases = [
        Case {
            overrides: Overrides::default(),
            main: "view, shell",
            typed: "input",
            plain: "view, shell",
            quiet: "",
            lined: "",
            anywhere: "view, input, shell",
        },
        Case {
            // `--vm` takes the place of `default_vm`, which then is named nowhere.
            overrides: Overrides {
                vms: vec![vm("lined")],
                ..Overrides::default()
            },
            main: "",
            typed: "input",
            plain: "view, shell",
            quiet: "",
            lined: "view, shell",
            anywhere: "view, input, shell",
        },
        Case {
            overrides: Overrides {
                allow: Some(vec![Capability::Files]),
                ..Overrides::default()
            },
            main: "files",
            typed: "files",
            plain: "files",
            quiet: "files",
            lined: "",
            anywhere: "files",
        },
        Case {
            overrides: Overrides {
                allow: Some(vec![Capability::View, Capability::Files]),
                read_only: true,
                ..Overrides::default()
            },
            main: "view",
            typed: "view",
            plain: "view",
            quiet: "view",
            lined: "",
            anywhere: "view",
        },
        Case {
            // Nothing is granted that was not granted before.
            overrides: Overrides {
                read_only: true,
                ..Overrides::default()
            },
            main: "view",
            typed: "",
            plain: "view",
            quiet: "",
            lined: "",
            anywhere: "view",
        },
        Case {
            overrides: Overrides {
                allow: Some(vec![Capability::Files]),
                read_only: true,
                ..Overrides::default()
            },
            main: "",
            typed: "",
            plain: "",
            quiet: "",
            lined: "",
            anywhere: "",
        },
    ];
    for case in cases {
        let (_home, env) = home_with(Some(FILE));
        let config = Config::load(case.overrides, &env).unwrap();
        let granted = |name: &str| {
            let is_default = config.default_vm == Some(vm(name));
            config.grants(&vm(name), is_default).to_string()
        };
        assert_eq!(
            [
                granted("main"),
                granted("typed"),
                granted("plain"),
                granted("quiet"),
                granted("lined"),
                granted("stranger"),
                config.grants_anywhere().to_string(),
            ],
            [
                case.main,
                case.typed,
                case.plain,
                case.quiet,
                case.lined,
                "",
                case.anywhere
            ]
        );
    }
}

#[test]
fn a_default_vm_found_at_run_time_has_the_global_grants() {
    let config = load("allow = ['view']\n[vm.a]\nallow = ['files']").unwrap();
    assert_eq!(config.grants(&vm("found"), true).to_string(), "view");
    assert_eq!(config.grants(&vm("a"), true).to_string(), "files");
    assert_eq!(config.grants_anywhere().to_string(), "view, files");
}

#[test]
fn the_process_is_captured_with_the_variables_that_matter_alone() {
    let env = Environment::from_process().unwrap();
    assert_eq!(env.working_dir, std::env::current_dir().unwrap());
    assert_eq!(env.home, std::env::home_dir());
    for (name, value) in &env.variables {
        assert!(name.starts_with("VM_") || name.contains("VIRT") || name.starts_with("XDG_"));
        assert_eq!(std::env::var_os(name).as_ref(), Some(value));
    }
}
