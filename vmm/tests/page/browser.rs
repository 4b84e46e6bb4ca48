//! Headless Chromium: opens a page, runs a script in it, and hands back what that wrote down.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

/// How long a page may take to open and to be measured. Once more if it does not: a machine may be busy.
const LIMITS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(60)];
/// So much of what a browser said last is in the message of a failure, in bytes.
const TAIL: usize = 2000;

/// What comes before everything else in the page: errors of scripts, and whatever the page's own policy
/// had to forbid.
const WATCH: &str = r"<script>
window.troubles = [];
addEventListener('error', (event) => troubles.push(`${event.message} at line ${event.lineno}`));
addEventListener('unhandledrejection', (event) => troubles.push(String(event.reason)));
addEventListener('securitypolicyviolation', (event) => troubles.push(`forbidden: ${event.blockedURI}`));
</script>";

/// A browser's window, and the colours that its system prefers.
#[derive(Clone, Copy)]
pub struct Window {
    pub width: u32,
    pub dark: bool,
}

impl Window {
    /// A light window.
    pub const fn wide(width: u32) -> Self {
        Self { width, dark: false }
    }
}

/// Opens the page, runs `script` in it when it has loaded, and returns the value that it returns. What
/// goes wrong in the page is an error here.
pub fn run(page: &str, window: Window, script: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let last = format!(
        "<script>addEventListener('load', () => {{
            const found = (() => {{ {script} }})();
            const text = JSON.stringify({{ found, troubles }}).replaceAll('<', '\\\\u003c');
            const element = document.createElement('script');
            element.type = 'application/json';
            element.id = 'found';
            element.textContent = text;
            document.body.append(element);
        }});</script></body>"
    );
    let page = page
        .replacen("<head>", &format!("<head>{WATCH}"), 1)
        .replacen("</body>", &last, 1);
    std::fs::write(&file, page).unwrap();
    let dom = dump(&file, folder.path(), window);
    let json = dom
        .split_once(r#"id="found">"#)
        .and_then(|(_, rest)| rest.split_once("</script>"))
        .unwrap_or_else(|| panic!("the page has not been measured: {} bytes of it", dom.len()))
        .0;
    let mut result: Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        result["troubles"],
        Value::Array(Vec::new()),
        "scripts went wrong"
    );
    result["found"].take()
}

/// The page's elements after its scripts have run. One browser runs at a time: each is many processes.
fn dump(file: &Path, folder: &Path, window: Window) -> String {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let browser = |attempt| opening(file, &folder.join(format!("profile{attempt}")), window);
    answer(&LIMITS, folder, browser).unwrap_or_else(|failures| panic!("{failures}"))
}

/// A browser that opens the page.
fn opening(file: &Path, profile: &Path, window: Window) -> Command {
    let mut command = Command::new(chromium());
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-extensions",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--dump-dom",
        ])
        .arg(format!("--window-size={},1000", window.width))
        .arg(format!("--user-data-dir={}", profile.display()));
    if window.dark {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    command.arg(format!("file://{}", file.display()));
    command
}

/// What the browser writes within the limit of its attempt; else how every attempt failed, with what the
/// browser said on its standard error.
fn answer(
    limits: &[Duration],
    folder: &Path,
    browser: impl Fn(usize) -> Command,
) -> Result<String, String> {
    let mut failures = String::new();
    for (attempt, &limit) in limits.iter().enumerate() {
        let said = folder.join(format!("said{attempt}"));
        let fault = match attempt_once(browser(attempt), &said, limit) {
            Ok(text) => return Ok(text),
            Err(fault) => fault,
        };
        let said = std::fs::read(&said).unwrap_or_default();
        let tail = &said[said.len().saturating_sub(TAIL)..];
        let tail = String::from_utf8_lossy(tail);
        failures += &format!("attempt {}: {fault}; it said last:\n{tail}\n", attempt + 1);
    }
    Err(failures)
}

fn attempt_once(mut command: Command, said: &Path, limit: Duration) -> Result<String, String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(said).unwrap())
        // A group of its own, so that all of its processes can be ended.
        .process_group(0);
    let mut browser = Browser(command.spawn().map_err(|error| error.to_string())?);
    let mut output = browser.0.stdout.take().unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = output.read_to_string(&mut text).map(|_| text);
        let _ = sender.send(read);
    });
    match receiver.recv_timeout(limit) {
        Ok(Ok(text)) if text.is_empty() => Err("Chromium wrote nothing".to_owned()),
        Ok(text) => text.map_err(|error| error.to_string()),
        Err(_) => Err(format!("Chromium has not shown the page within {limit:?}")),
    }
}

/// A running browser. All of its processes end with it.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.0.id().cast_signed()) {
            // An error means that they have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// The browser's path. Where there is none it is installed; where that cannot be, the test fails with
/// what is missing.
fn chromium() -> &'static Path {
    static CHROMIUM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = CHROMIUM.get_or_init(|| {
        let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources/browser/setup");
        let output = Command::new(&setup)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", setup.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(said.into_owned());
        }
        let path = String::from_utf8_lossy(&output.stdout);
        Ok(PathBuf::from(path.trim()))
    });
    match found {
        Ok(path) => path,
        Err(error) => panic!("no browser to test with:\n{error}"),
    }
}

/// A shell in the place of the browser.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn a_browser_that_does_not_answer_is_tried_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let scripts = ["exec sleep 1000", "echo page"];
    let limits = [Duration::ZERO, LIMITS[1]];
    let answer = answer(&limits, folder.path(), |attempt| shell(scripts[attempt]));
    assert_eq!(answer.as_deref(), Ok("page\n"));
}

#[test]
fn a_failure_says_what_the_browser_said_in_every_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let scripts = ["echo no display >&2", "echo no memory >&2; exit 1"];
    let failures = answer(&LIMITS, folder.path(), |attempt| shell(scripts[attempt]));
    let failures = failures.unwrap_err();
    for part in ["attempt 1: ", "no display", "attempt 2: ", "no memory"] {
        assert!(failures.contains(part), "{failures}");
    }
}
