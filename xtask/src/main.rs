//! The checks that keep the house in order: `cargo xtask check`.
//!
//! They hold what compilers and lints do not: imports point down the floors only, ARCHITECTURE.md
//! tells of every crate and of no other, and the sans-IO crates reach for nothing of the outside.

mod floors;
mod manifest;
mod page;
mod sansio;

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words != ["check"] {
        eprintln!("usage: cargo xtask check");
        return ExitCode::from(2);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace");
    match check(root) {
        Ok(findings) if findings.is_empty() => {
            println!("the house is in order");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            for finding in &findings {
                eprintln!("error: {finding}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Every breach of the rules below `root`, a line each; empty if there is none.
fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let crates = manifest::read(root)?;
    let mut findings = Vec::new();
    floors::check(&crates, &mut findings);
    page::check(root, &crates, &mut findings)?;
    sansio::check(root, &crates, &mut findings)?;
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn this_house_is_in_order() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert_eq!(super::check(root).unwrap(), Vec::<String>::new());
    }
}
