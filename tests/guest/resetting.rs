//! A guest that is reset while it is worked with.

use std::fs;

use serde_json::json;

use crate::guest::Guest;

#[test]
fn a_reset_in_the_middle_is_told_and_nothing_is_half_written() {
    let mut guest = Guest::enter();
    let mut client = guest.client();
    let file = fs::File::create(guest.files().join("large")).unwrap();
    file.set_len(1 << 30).unwrap();
    // Before the reset, so that it is on the guest's disk.
    guest.run("echo old > /home/vmrobot/large; chown vmrobot /home/vmrobot/large; sync");
    let sleeping = client.send_call(
        "ssh_execute",
        json!({"command": "echo begun; sleep 1000", "timeout": 900}),
    );
    let upload = client.send_call(
        "ssh_upload",
        json!({"local_path": "large", "remote_path": "/home/vmrobot/large", "verify": false}),
    );
    guest.until("both are under way", |guest| {
        let begun = "pgrep -x sleep -u vmrobot && test -n \"$(find /home/vmrobot -name '.*part' -size +1M)\" && sync";
        (guest.try_run(begun).code == 0).then_some(())
    });
    guest.reset();

    let slept = client.reply(sleeping);
    let data = slept.data.expect("commands give data");
    assert_eq!(data["state"], "unknown", "{}", slept.text);
    assert_eq!(data["stdout"], "begun\n");
    let uploaded = client.reply(upload);
    assert!(uploaded.is_error, "{}", uploaded.text);
    assert!(
        uploaded.text.contains("was lost during the transfer"),
        "{}",
        uploaded.text
    );
    let there = guest.run("cat /home/vmrobot/large; ls -A /home/vmrobot");
    assert!(there.starts_with("old\n"), "{there}");
    for left in there.lines().filter(|name| name.contains(".virtpilot-")) {
        assert!(
            uploaded.text.contains(left),
            "{left} is not told: {}",
            uploaded.text
        );
    }

    fs::write(guest.files().join("small"), "new\n").unwrap();
    let small = json!({"local_path": "small", "remote_path": "/home/vmrobot/large"});
    client.done("ssh_upload", small);
    let read = client.done(
        "ssh_execute",
        json!({"command": "cat large; rm -f large .large.virtpilot-*"}),
    );
    assert_eq!(read.data.unwrap()["stdout"], "new\n");
}
