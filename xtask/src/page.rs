//! Whether ARCHITECTURE.md tells of the crates that exist, and of no others.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Context;

use crate::manifest::Crate;

const PAGE: &str = "ARCHITECTURE.md";

/// Compares the page below `root` with the crates.
pub(crate) fn check(
    root: &Path,
    crates: &[Crate],
    findings: &mut Vec<String>,
) -> anyhow::Result<()> {
    let page = root.join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
    compare(&text, crates, findings);
    Ok(())
}

fn compare(text: &str, crates: &[Crate], findings: &mut Vec<String>) {
    let told = named(text);
    let real: BTreeSet<&str> = crates.iter().map(|each| each.folder.as_str()).collect();
    for name in told.difference(&real) {
        findings.push(format!("{PAGE} names crates/{name}, which does not exist"));
    }
    for name in real.difference(&told) {
        findings.push(format!("{PAGE} does not tell of crates/{name}"));
    }
}

/// The crates that a text names, as `crates/NAME`.
fn named(text: &str) -> BTreeSet<&str> {
    text.split("crates/")
        .skip(1)
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str, folders: &[&str]) -> Vec<String> {
        let crates: Vec<_> = folders
            .iter()
            .map(|folder| Crate {
                folder: (*folder).into(),
                dependencies: Vec::new(),
                dev_dependencies: Vec::new(),
            })
            .collect();
        let mut findings = Vec::new();
        compare(text, &crates, &mut findings);
        findings
    }

    #[test]
    fn a_page_that_tells_of_all_crates_passes() {
        assert!(findings("| `crates/ids` | 0 |\n| `crates/net`|", &["ids", "net"]).is_empty());
    }

    #[test]
    fn a_crate_that_is_gone_is_found() {
        let found = findings("crates/ids, crates/attic", &["ids"]);
        assert_eq!(
            found,
            ["ARCHITECTURE.md names crates/attic, which does not exist"]
        );
    }

    #[test]
    fn a_crate_that_is_not_told_of_is_found() {
        assert_eq!(
            findings("crates/ids", &["ids", "net"]),
            ["ARCHITECTURE.md does not tell of crates/net"]
        );
    }
}
