//! Drives that are served by processes of `sundown-nvme`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::machine::{Ending, POLL, TIME_LIMIT, built, end_of, folder};

/// A drive of one raw file, served by a process.
pub struct Drive {
    name: String,
    disk: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    process: Ending,
}

impl Drive {
    /// Makes an empty drive of 8 MiB and serves it, its doorbells rung as `doorbells` says.
    pub fn serve(name: &str, doorbells: &str) -> Self {
        let disk = folder().join(format!("{name}.raw"));
        let _ = fs::remove_file(&disk);
        File::create(&disk).unwrap().set_len(8 << 20).unwrap();
        Self::serve_file(name, doorbells, disk)
    }

    /// Serves a drive of the raw file `disk`.
    pub fn serve_file(name: &str, doorbells: &str, disk: PathBuf) -> Self {
        let [config, socket, log] =
            ["json", "sock", "log"].map(|kind| folder().join(format!("{name}.{kind}")));
        let text = format!(
            r#"{{ "type": "nvme", "id": "{name}", "namespaces": [{{ "path": "{}" }}] }}"#,
            disk.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Ending::command(&built().program);
        command
            .arg("--socket")
            .arg(&socket)
            .arg("--config")
            .arg(&config)
            .args(["--log", "debug", "--doorbells", doorbells])
            .stderr(File::create(&log).unwrap());
        let mut drive = Self {
            name: name.to_owned(),
            disk,
            socket,
            log,
            process: Ending::start(&mut command),
        };
        drive.wait_for_log("serving", 1);
        drive
    }

    /// Waits until the process has logged a line with `words` for the `times`th time.
    pub fn wait_for_log(&mut self, words: &str, times: usize) {
        let started = Instant::now();
        while self.log().matches(words).count() < times {
            let ended = self.process.ended();
            assert!(
                ended.is_none() && started.elapsed() < TIME_LIMIT,
                "the process does not log {words:?} (ended: {ended:?}):\n{}",
                self.last_words()
            );
            std::thread::sleep(POLL);
        }
    }

    /// All that the process has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of the process's log, for a test that fails.
    pub fn last_words(&self) -> String {
        format!("the drive {}:\n{}", self.name, end_of(&self.log))
    }

    /// The file that holds the drive's data.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// The socket that the drive is served on.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends the process as a service manager does.
    pub fn stop(mut self) {
        self.process.terminate();
        let code = self
            .process
            .wait()
            .unwrap_or_else(|| panic!("sundown-nvme does not end:\n{}", self.last_words()));
        assert_eq!(code.code(), Some(0), "{}", self.last_words());
        assert!(!self.socket.exists(), "the socket is removed");
        let log = self.log();
        let warned = log.contains(" WARN ") || log.contains(" ERROR ");
        assert!(!warned, "{}", self.last_words());
    }
}
