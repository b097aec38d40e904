//! The studies in `docs/studies`: what they print must come of the program as it is today.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Command};

/// One seed of each combination: all of them take minutes where nothing is optimised.
#[test]
fn the_broadcast_study_gives_the_same_digests_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/studies");
    let study = fs::read_to_string(folder.join("broadcast-order.toml")).unwrap();
    let few = study.replace("seed = \"1-10\"", "seed = [10]");
    let few = few.replace("payload = [1024, 8192, 32768]", "payload = [8192]");
    assert_ne!(study, few);
    let disk = tempfile::tempdir().unwrap();
    let path = disk.path().join("few.toml");
    fs::write(&path, few).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringweave"))
        .args(["sim", "sweep"])
        .arg(&path)
        .arg("--out")
        .arg(folder.join("broadcast-order.jsonl"))
        .arg("--check")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{said}{complained}run the study again, and look at its table: docs/studies/broadcast-order.md"
    );
    assert_eq!(said, "4 runs checked, 0 differ\n");
}
