//! The workspace's crates as their manifests tell of them.

use std::{fs, path::Path};

use anyhow::Context;
use toml::{Table, Value};

/// The crates' common first name: crate `ringweave-NAME` lives in `crates/NAME`.
const PREFIX: &str = "ringweave-";

/// A crate of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crate {
    /// Its folder below `crates/`.
    pub(crate) folder: String,
    /// Packages it is built with, by their real names.
    pub(crate) dependencies: Vec<String>,
    /// Packages that only its tests and benches use.
    pub(crate) dev_dependencies: Vec<String>,
}

impl Crate {
    /// The crates of this workspace that it depends on in any way, by folder.
    pub(crate) fn inner(&self) -> impl Iterator<Item = &str> {
        self.dependencies
            .iter()
            .chain(&self.dev_dependencies)
            .filter_map(|name| folder_of(name))
    }
}

/// The folder of a crate of this workspace; nothing for a foreign package.
pub(crate) fn folder_of(package: &str) -> Option<&str> {
    if package == "ringweave" {
        Some(package)
    } else {
        package.strip_prefix(PREFIX)
    }
}

/// Reads `crates/*/Cargo.toml`, in order of their names.
pub(crate) fn read(root: &Path) -> anyhow::Result<Vec<Crate>> {
    let folder = root.join("crates");
    let mut crates = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let file = path.join("Cargo.toml");
        if !file.is_file() {
            continue;
        }
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let table: Table = text
            .parse()
            .with_context(|| format!("parsing {}", file.display()))?;
        let folder = path
            .file_name()
            .and_then(|name| name.to_str())
            .context("a crate's folder has no name")?;
        crates.push(parse(folder, &table));
    }
    crates.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(crates)
}

fn parse(folder: &str, table: &Table) -> Crate {
    let mut parsed = Crate {
        folder: folder.into(),
        dependencies: Vec::new(),
        dev_dependencies: Vec::new(),
    };
    let targets = table.get("target").and_then(Value::as_table);
    let sections = std::iter::once(table).chain(
        targets
            .into_iter()
            .flat_map(|all| all.values().filter_map(Value::as_table)),
    );
    for section in sections {
        collect(section, "dependencies", &mut parsed.dependencies);
        collect(section, "build-dependencies", &mut parsed.dependencies);
        collect(section, "dev-dependencies", &mut parsed.dev_dependencies);
    }
    parsed
}

fn collect(section: &Table, key: &str, names: &mut Vec<String>) {
    for (name, value) in section
        .get(key)
        .and_then(Value::as_table)
        .into_iter()
        .flatten()
    {
        // A renamed dependency is still the package it names.
        let real = value.get("package").and_then(Value::as_str).unwrap_or(name);
        names.push(real.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_found_in_every_section_and_under_every_name() {
        let text = r#"
            [dependencies]
            net = { package = "ringweave-net", path = "../net" }
            [build-dependencies]
            cc = "1"
            [target.'cfg(unix)'.dependencies]
            libc = "0.2"
            [dev-dependencies]
            ringweave = { path = "../ringweave" }
        "#;
        let parsed = parse("ids", &text.parse().unwrap());
        assert_eq!(parsed.dependencies, ["ringweave-net", "cc", "libc"]);
        assert_eq!(parsed.inner().collect::<Vec<_>>(), ["net", "ringweave"]);
    }
}
