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

/// The tables and plots of the page are what its results say, to the last digit.
#[test]
fn the_page_of_the_topologies_is_what_its_results_say() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let disk = tempfile::tempdir().unwrap();
    let results = Path::new("studies/topologies");
    for folder in [results, Path::new("topologies")] {
        fs::create_dir_all(disk.path().join(folder)).unwrap();
    }
    for file in fs::read_dir(docs.join(results)).unwrap() {
        let file = file.unwrap();
        if file.path().extension().is_some_and(|it| it == "jsonl") {
            let copy = disk.path().join(results).join(file.file_name());
            fs::copy(file.path(), copy).unwrap();
        }
    }
    let page = disk.path().join("topologies.md");
    fs::copy(docs.join("topologies.md"), &page).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringweave"))
        .args(["sim", "compare", "--page"])
        .arg(&page)
        .output()
        .unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    assert!(
        read(&page) == read(&docs.join("topologies.md")),
        "fill the page in again: ringweave sim compare --page docs/topologies.md"
    );
    let plots: Vec<_> = fs::read_dir(disk.path().join("topologies"))
        .unwrap()
        .collect();
    assert!(!plots.is_empty());
    for plot in plots {
        let plot = plot.unwrap();
        let kept = docs.join("topologies").join(plot.file_name());
        assert!(read(&plot.path()) == read(&kept), "{}", kept.display());
    }
}
