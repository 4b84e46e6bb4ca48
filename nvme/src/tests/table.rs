//! The conformance table of the documentation: every test that it names is there, in this crate or among the
//! system tests.

use std::fs;
use std::path::Path;

/// All source files below `folder`, one after the other.
fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.push_str(&sources(&path));
        } else {
            all.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    all
}

#[test]
fn the_table_names_tests_that_exist() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(crate_folder.join("../docs/nvme.md")).unwrap();
    let folders =
        ["src", "fuzz/tests", "../tests/tests"].map(|folder| sources(&crate_folder.join(folder)));
    let tests = folders.concat();
    let scenarios = sources(&crate_folder.join("../tests/src/scenarios"));
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let mut named = 0;
    for row in rows.filter(|row| !row.starts_with("| what |")) {
        let last = row.split(" | ").last().unwrap();
        let names: Vec<_> = last.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test in the row: {row}");
        for name in names {
            assert!(
                tests.contains(&format!("fn {name}("))
                    || scenarios.contains(&format!("\"{name}\"")),
                "there is no {name}"
            );
            named += 1;
        }
    }
    assert!(named > 50, "the table was not read: {named}");
}
