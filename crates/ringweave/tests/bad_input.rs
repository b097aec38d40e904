//! Bad input ends with exit code 2 (or what the contract says) and changes nothing on disk.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

fn ringweave(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringweave"))
        .args(words)
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder.join("data-home"))
        .env("XDG_CONFIG_HOME", folder.join("config-home"))
        .env_remove("RINGWEAVE_DATA")
        .output()
        .unwrap()
}

/// Every file below a folder, with what it holds.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.insert(path.display().to_string(), Vec::new());
            all.append(&mut contents(&path));
        } else {
            all.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    all
}

fn ends_with(folder: &Path, words: &[&str], code: i32, said: &str) {
    let before = contents(folder);
    let output = ringweave(folder, words);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
    assert!(
        error.contains(said),
        "{words:?} does not say {said:?}: {error}"
    );
    assert_eq!(contents(folder), before, "{words:?} changed something");
}

#[test]
fn words_that_make_no_sense_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let up = |words: &[&'static str]| {
        [
            &[
                "up",
                "--data",
                "peer",
                "--lan=false",
                "--listen",
                "127.0.0.1:0",
            ],
            words,
        ]
        .concat()
    };
    for (words, said) in [
        (up(&["--join", "hello"]), "no invite"),
        (up(&["--join", "ringweave1"]), "cut short"),
        (up(&["--join", "@gone"]), "gone"),
        (up(&["--cluster", "17"]), "--cluster 17"),
        (up(&["--topology", "pyramid"]), "is no topology"),
        (up(&["--ring-size", "5000"]), "out of range"),
        (up(&["--ring-size", "many"]), "many"),
        (up(&["--name", "an na"]), "an na"),
        (up(&["--label", "/eu//dk"]), "/eu//dk"),
        (up(&["--api", "192.0.2.1:0"]), "loopback"),
        (vec!["send", "[4..2]", "x"], "coordinate"),
        (vec!["send", "anna"], "TEXT"),
        (vec!["fly"], "fly"),
    ] {
        ends_with(folder.path(), &words, 2, said);
    }
}

#[test]
fn an_unknown_key_in_the_settings_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("settings.toml"),
        "name = \"anna\"\nringsize = 8\n",
    )
    .unwrap();
    let words = ["up", "--data", "peer", "--config", "settings.toml"];
    ends_with(
        folder.path(),
        &words,
        2,
        "settings.toml:2: unknown field `ringsize`",
    );
}

#[test]
fn worlds_and_studies_that_make_no_sense_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("world.toml", "peers = 10\npeer = 11\n");
    write("late.toml", "duration = 5\ncrash = \"0.3@9\"\n");
    write("study.toml", "[grid]\nseed = [1, \"two\"]\n");
    write("good.toml", "[grid]\nseed = [1]\n");
    write(
        "other.jsonl",
        "{\"settings\":{\"seed\":1},\"command\":\"ringweave\"}\n",
    );
    for (words, said) in [
        (
            "run --scenario world.toml",
            "world.toml:2: peer: unknown key; did you mean peers?",
        ),
        (
            "run --scenario late.toml",
            "late.toml:2: crash: 9 s is after the end",
        ),
        (
            "run --scenario late.toml --crash 0.3@8",
            "error: crash: 8 s is after the end",
        ),
        ("run --scenario gone.toml", "cannot read gone.toml"),
        (
            "compare --vary polcy=nearest --html page.html",
            "did you mean policy?",
        ),
        (
            "sweep study.toml --out results.jsonl",
            "study.toml:2: seed: \"two\" is no whole number",
        ),
        (
            "sweep good.toml --out other.jsonl",
            "other.jsonl:1: this is a result of another study",
        ),
        ("sweep good.toml", "--out"),
    ] {
        let words: Vec<_> = ["sim"].into_iter().chain(words.split(' ')).collect();
        ends_with(folder.path(), &words, 2, said);
    }
}

#[test]
fn a_data_directory_of_another_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("peer")).unwrap();
    fs::write(folder.path().join("peer/version"), "999\n").unwrap();
    fs::write(folder.path().join("peer/notes.txt"), "not ours").unwrap();
    let words = [
        "up",
        "--data",
        "peer",
        "--lan=false",
        "--listen",
        "127.0.0.1:0",
    ];
    ends_with(folder.path(), &words, 2, "version");
}

#[test]
fn a_payload_over_the_limit_is_refused_before_anybody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let text = "x".repeat(64 * 1024 + 1);
    for words in [
        vec!["send", "anna", &text],
        vec!["multicast", "anna", "--", &text],
        vec!["broadcast", &text],
    ] {
        ends_with(folder.path(), &words, 2, "65537 bytes");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = [
        "up",
        "--data",
        "peer",
        "--lan=false",
        "--listen",
        "127.0.0.1:0",
        "--api",
        &address,
    ];
    ends_with(folder.path(), &words, 1, &address);
}

#[test]
fn where_no_peer_runs_the_exit_code_is_4() {
    let folder = tempfile::tempdir().unwrap();
    for words in [
        vec!["status"],
        vec!["id"],
        vec!["send", "anna", "x"],
        vec!["listen"],
    ] {
        ends_with(folder.path(), &words, 4, "no peer runs");
    }
}
