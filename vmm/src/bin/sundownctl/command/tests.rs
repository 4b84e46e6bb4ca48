//! Command lines, and what they call.

use std::collections::BTreeSet;

use api::server::ROUTES;
use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = ["sundownctl", "--api-socket", "/s"]
        .into_iter()
        .chain(line.split_whitespace());
    Arguments::try_parse_from(words).map(|arguments| arguments.command)
}

#[test]
fn every_route_has_a_command() {
    Arguments::command().debug_assert();
    let device = device_file();
    let commands = [
        "ping",
        "create /dev/null",
        "boot",
        "info",
        "pause",
        "resume",
        "shutdown",
        "reboot",
        "power-button",
        "delete",
        "vmm-shutdown",
        "topology",
        "behaviour d",
        "behaviour d --clear-faults",
        &format!("add-device {}", device.path().display()),
        "add-user-device --socket /run/s --fence",
        "remove-device d",
        "plan",
        "teardown-policy",
        "teardown-policy serial",
        "teardowns",
        "teardown 7",
        "events",
    ];
    let called: BTreeSet<_> = commands
        .iter()
        .map(|line| parse(line).unwrap().into_call().unwrap())
        .map(|call| {
            (
                call.method.to_string().to_lowercase(),
                call.path.replace("/7", "/{n}").replace("/d/", "/{id}/"),
            )
        })
        .collect();
    let routes = ROUTES.iter().filter(|route| route.path != "/openapi.json");
    let routes = routes
        .map(|route| (route.method.to_owned(), route.path.to_owned()))
        .collect();
    assert_eq!(called, routes);
}

/// A device in a file.
fn device_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let device = serde_json::json!({ "type": "vfio", "id": "v", "path": "01:00.0" });
    std::fs::write(file.path(), device.to_string()).unwrap();
    file
}

#[test]
fn an_added_device_is_checked_and_put_behind_its_parent() {
    let file = device_file();
    let add = |more: &str| {
        let line = format!("add-device {}{more}", file.path().display());
        parse(&line).unwrap().into_call()
    };
    let body: serde_json::Value =
        serde_json::from_slice(&add(" --parent rp").unwrap().body).unwrap();
    assert_eq!(
        (&body["parent"], &body["path"]),
        (&"rp".into(), &"01:00.0".into())
    );
    std::fs::write(file.path(), r#"{"type": "vfio", "id": "v"}"#).unwrap();
    let refused = add("").unwrap_err().to_string();
    assert!(refused.contains("missing field `path`"), "{refused}");

    let call = parse("add-user-device --socket /run/s --id u --fence --request-timeout 70");
    let body = call.unwrap().into_call().unwrap().body;
    let body: api::config::AddUserDevice = serde_json::from_slice(&body).unwrap();
    assert_eq!(body.id.as_deref(), Some("u"));
    assert_eq!((body.fence, body.request_timeout_ms), (true, Some(70)));
}

#[test]
fn saved_reports_need_no_machine() {
    let line = [
        "sundownctl",
        "page",
        "a.json",
        "b.json",
        "--output",
        "x.html",
    ];
    let arguments = Arguments::try_parse_from(line).unwrap();
    assert!(matches!(
        arguments.command,
        Command::Page { reports, output } if reports.len() == 2 && output == Path::new("x.html")
    ));
    assert!(parse("page --output x.html").is_err());
}

#[test]
fn a_trace_of_saved_reports_needs_no_machine_but_a_file_to_write() {
    let line = [
        "sundownctl",
        "trace",
        "a.json",
        "b.json",
        "--output",
        "t.json",
    ];
    let arguments = Arguments::try_parse_from(line).unwrap();
    assert!(matches!(
        arguments.command,
        Command::Trace { reports, output } if reports.len() == 2 && output == Path::new("t.json")
    ));
    assert!(parse("trace a.json").is_err());
    assert!(parse("trace --output t.json").is_err());
    let Command::Teardown { drawings, .. } = parse("teardown 7 --trace t.json").unwrap() else {
        panic!("it is another command");
    };
    assert!(!drawings.is_empty());
}

#[test]
fn a_policy_is_sent_as_json_has_it() {
    let body = |line: &str| parse(line).unwrap().into_call().unwrap().body;
    assert_eq!(
        body("teardown-policy serial --workers 4"),
        br#"{"policy":"serial","workers":4}"#
    );
    assert_eq!(body("teardown-policy --workers 4"), br#"{"workers":4}"#);
    assert!(parse("teardown-policy fast").is_err());
}

#[test]
fn the_help_says_which_commands_have_exit_codes_of_their_own() {
    let help = Arguments::command().render_long_help().to_string();
    assert!(help.contains("`check` and `measure` have exit codes of their own"));
    for name in ["check", "measure"] {
        let mut arguments = Arguments::command();
        let command = arguments.find_subcommand_mut(name).unwrap();
        let help = command.render_long_help().to_string();
        assert!(help.contains("Exit code"), "{name}");
    }
}

#[test]
fn a_change_of_behaviour_is_checked_before_it_is_sent() {
    let body = |words: &[&str]| {
        let words = ["sundownctl", "behaviour", "d"].iter().chain(words);
        let command = Arguments::try_parse_from(words).map(|arguments| arguments.command)?;
        let call = command.into_call().unwrap();
        Ok::<_, clap::Error>(serde_json::from_slice::<serde_json::Value>(&call.body).unwrap())
    };
    let teardown = r#"{"latency": {"kind": "fixed", "ms": 7}}"#;
    let sent = body(&["--faults", r#"{"flush": "stuck"}"#, "--teardown", teardown]).unwrap();
    let expected = serde_json::json!({
        "faults": { "flush": "stuck" },
        "teardown": { "latency": { "kind": "fixed", "ms": 7 } },
    });
    assert_eq!(sent, expected);
    let cleared = body(&["--clear-faults"]).unwrap();
    assert_eq!(cleared, serde_json::json!({ "faults": {} }));
    let wrong = body(&["--faults", r#"{"flush": "slow"}"#]).unwrap_err();
    assert!(
        wrong.to_string().contains("unknown variant `slow`"),
        "{wrong}"
    );
    assert!(body(&["--faults", "{}", "--clear-faults"]).is_err());
}

/// The README's section of this title.
fn section(title: &str) -> &'static str {
    const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"));
    let (_, from) = README.split_once(&format!("\n## {title}\n")).unwrap();
    from.split_once("\n## ").unwrap().0
}

/// The words of a command line as a shell has them: single quotes, comments and continued lines.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
            continue;
        }
        let bare = part
            .split(" #")
            .next()
            .unwrap_or_default()
            .replace("\\\n", " ");
        words.extend(bare.split_whitespace().map(str::to_owned));
    }
    words
}

#[test]
fn what_the_readme_says_of_drives_can_be_copied() {
    let drive = |more: serde_json::Value| {
        let config = serde_json::json!({ "payload": { "kernel": "k" }, "pci": [more] });
        api::config::VmConfig::from_json(config.to_string().as_bytes()).unwrap()
    };
    let section = section("The drive");
    let (_, block) = section.split_once("```json\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let config = drive(serde_json::from_str(block).unwrap());

    let prompts = section.split("/tmp # ").skip(1);
    let mut changes = 0;
    for line in prompts {
        let line = line
            .split("\n\n")
            .next()
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let words = words(line);
        let body = match words[0].as_str() {
            "sundownctl" => {
                let arguments = Arguments::try_parse_from(&words).unwrap();
                let call = arguments.command.into_call().unwrap();
                assert_eq!(call.path, "/vm.devices/drive0/behaviour");
                call.body
            }
            "curl" => {
                assert!(
                    line.contains("/api/v1/vm.devices/drive0/behaviour"),
                    "{line}"
                );
                let data = words.iter().position(|word| word == "-d");
                data.map(|at| words[at + 1].clone().into_bytes())
                    .unwrap_or_default()
            }
            other => panic!("{other} is not known here"),
        };
        if body.is_empty() {
            continue;
        }
        changes += 1;
        let update: api::config::BehaviourUpdate = serde_json::from_slice(&body).unwrap();
        update.validate().unwrap();
        let mut device = config.device("drive0").unwrap().clone();
        update.apply(&mut device).unwrap();
    }
    assert_eq!(changes, 8);
}
