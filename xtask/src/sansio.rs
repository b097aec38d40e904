//! Whether the sans-IO crates reach for a clock, a thread, a socket, the disk, an async runtime or
//! process randomness: in their dependencies, and in their source.
//!
//! The source is parsed, not searched: comments and texts say what they like, and a grouped, renamed
//! or nested import does not hide what it brings in. Clippy bans the same in `clippy.toml`, with the
//! types resolved; what stands here also covers whole modules and crates.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use syn::{
    Macro, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::manifest::{Crate, folder_of};

/// The crates that know nothing of the outside.
const CRATES: &[&str] = &["ids", "overlay", "node"];

/// The foreign packages they may be built with. A new one is a decision, taken here.
const PACKAGES: &[&str] = &[
    "blake3",
    "bytes",
    "data-encoding",
    "postcard",
    "rand_chacha",
    "rand_core",
    "rand_pcg",
    "serde",
    "smallvec",
    "thiserror",
];

/// What their source must not name, with what to use instead. A path bans all below it.
const BANNED: &[(&str, &str)] = &[
    (
        "std::time::Instant",
        "time is an argument: ringweave_ids::Time",
    ),
    (
        "std::time::SystemTime",
        "time is an argument: ringweave_ids::Time",
    ),
    (
        "std::time::UNIX_EPOCH",
        "time is an argument: ringweave_ids::Time",
    ),
    (
        "std::thread",
        "a machine has no threads; its host drives it",
    ),
    (
        "std::net",
        "sockets and addresses are the host's; peers are handles",
    ),
    ("std::os", "a machine knows no operating system"),
    ("std::fs", "the disk is the host's"),
    ("std::env", "settings are arguments: the overlay's Config"),
    ("std::process", "a machine starts and ends no processes"),
    (
        "std::random",
        "chance is an argument: ringweave_ids::Random",
    ),
    (
        "std::hash::RandomState",
        "chance is an argument: ringweave_ids::Random",
    ),
    (
        "std::collections::hash_map::RandomState",
        "chance is an argument: ringweave_ids::Random",
    ),
    (
        "std::collections::hash_map::DefaultHasher",
        "its result may change with the compiler: blake3",
    ),
    (
        "std::hash::DefaultHasher",
        "its result may change with the compiler: blake3",
    ),
    (
        "std::sync::mpsc",
        "nothing is shared; outputs go into the host's buffer",
    ),
    ("rand", "chance is an argument: ringweave_ids::Random"),
    ("getrandom", "chance is an argument: ringweave_ids::Random"),
    ("tokio", "a machine has no runtime; its host drives it"),
    ("async_std", "a machine has no runtime; its host drives it"),
    ("futures", "a machine has no runtime; its host drives it"),
    (
        "futures_util",
        "a machine has no runtime; its host drives it",
    ),
];

/// Finds what the sans-IO crates below `root` must not know.
pub(crate) fn check(
    root: &Path,
    crates: &[Crate],
    findings: &mut Vec<String>,
) -> anyhow::Result<()> {
    let mut bans: Option<String> = None;
    for each in crates
        .iter()
        .filter(|each| CRATES.contains(&each.folder.as_str()))
    {
        packages(each, findings);
        let folder = root.join("crates").join(&each.folder);
        let file = folder.join("clippy.toml");
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        if bans.get_or_insert_with(|| text.clone()) != &text {
            findings.push(format!(
                "crates/{}/clippy.toml differs from its copies",
                each.folder
            ));
        }
        for file in sources(&folder.join("src"))? {
            let text =
                fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let name = file
                .strip_prefix(root)
                .unwrap_or(&file)
                .display()
                .to_string();
            source(&name, &text, findings)?;
        }
    }
    Ok(())
}

fn packages(each: &Crate, findings: &mut Vec<String>) {
    for name in &each.dependencies {
        if folder_of(name).is_none() && !PACKAGES.contains(&name.as_str()) {
            findings.push(format!(
                "crates/{} is sans-IO and may not depend on {name}; if it knows no clock, thread, socket \
                 or randomness, add it to xtask/src/sansio.rs",
                each.folder
            ));
        }
    }
}

/// The Rust files below a folder, in order.
fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Finds banned paths in one file's text.
fn source(name: &str, text: &str, findings: &mut Vec<String>) -> anyhow::Result<()> {
    let file = syn::parse_file(text).with_context(|| format!("parsing {name}"))?;
    let mut imports = Imports::default();
    imports.visit_file(&file);
    let mut paths = Paths {
        aliases: &imports.aliases,
        found: Vec::new(),
    };
    paths.visit_file(&file);
    let mut found = imports.found;
    found.append(&mut paths.found);
    found.sort();
    found.dedup();
    for (line, path, instead) in found {
        findings.push(format!(
            "{name}:{line}: a sans-IO crate must not use {path}; {instead}"
        ));
    }
    Ok(())
}

/// A line, what stands there, and what to use instead.
type Found = (usize, String, &'static str);

/// The ban that a whole path falls under.
fn ban(path: &str) -> Option<&'static str> {
    let path = plain(path);
    let covers = |banned: &str| {
        path.strip_prefix(banned)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    BANNED
        .iter()
        .find(|(banned, _)| covers(banned))
        .map(|(_, instead)| *instead)
}

/// The ban that a glob import of everything in `module` would bring in.
fn ban_below(module: &str) -> Option<&'static str> {
    let module = format!("{}::", plain(module));
    BANNED
        .iter()
        .find(|(banned, _)| banned.starts_with(&module))
        .map(|(_, instead)| *instead)
}

/// The path without a leading `::`, and with `core` and `alloc` as their re-exports in `std`.
fn plain(path: &str) -> String {
    let path = path.trim_start_matches("::");
    for crate_name in ["core", "alloc"] {
        if let Some(rest) = path
            .strip_prefix(crate_name)
            .filter(|rest| rest.starts_with("::"))
        {
            return format!("std{rest}");
        }
    }
    path.to_owned()
}

/// Collects what `use` brings in: bans that it breaks, and the names under which modules go on.
#[derive(Default)]
struct Imports {
    aliases: BTreeMap<String, String>,
    found: Vec<Found>,
}

impl Imports {
    fn tree(&mut self, prefix: &str, tree: &UseTree) {
        let join = |name: &str| {
            if prefix.is_empty() {
                name.to_owned()
            } else {
                format!("{prefix}::{name}")
            }
        };
        let line = tree.span().start().line;
        match tree {
            UseTree::Path(path) => self.tree(&join(&path.ident.to_string()), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(prefix, item)),
            UseTree::Name(name) if name.ident == "self" => {
                self.name(line, prefix.to_owned(), last(prefix))
            }
            UseTree::Name(name) => {
                self.name(line, join(&name.ident.to_string()), &name.ident.to_string())
            }
            UseTree::Rename(rename) if rename.ident == "self" => {
                self.name(line, prefix.to_owned(), &rename.rename.to_string());
            }
            UseTree::Rename(rename) => {
                self.name(
                    line,
                    join(&rename.ident.to_string()),
                    &rename.rename.to_string(),
                );
            }
            UseTree::Glob(_) => {
                if let Some(instead) = ban(prefix).or_else(|| ban_below(prefix)) {
                    self.found.push((line, format!("{prefix}::*"), instead));
                }
            }
        }
    }

    fn name(&mut self, line: usize, path: String, alias: &str) {
        if let Some(instead) = ban(&path) {
            self.found.push((line, path.clone(), instead));
        }
        self.aliases.insert(alias.to_owned(), path);
    }
}

fn last(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_use_tree(&mut self, tree: &'ast UseTree) {
        self.tree("", tree);
    }
}

/// Finds banned paths in everything but imports, with the imports' names resolved.
struct Paths<'a> {
    aliases: &'a BTreeMap<String, String>,
    found: Vec<Found>,
}

impl Paths<'_> {
    fn path(&mut self, line: usize, path: &str) {
        let (first, rest) = path
            .split_once("::")
            .map_or((path, None), |(first, rest)| (first, Some(rest)));
        // A name on its own was judged where it was imported.
        let Some(rest) = rest else { return };
        let whole = self
            .aliases
            .get(first)
            .map_or_else(|| path.to_owned(), |full| format!("{full}::{rest}"));
        if let Some(instead) = ban(&whole) {
            self.found.push((line, whole, instead));
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.path(path.span().start().line, &names.join("::"));
        visit::visit_path(self, path);
    }

    /// A macro's words are no syntax tree: its runs of `name::name` are looked at instead.
    fn visit_macro(&mut self, of: &'ast Macro) {
        let line = of.span().start().line;
        let text: String = of
            .tokens
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        for run in text
            .replace(" :: ", "::")
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        {
            self.path(line, run.trim_matches(':'));
        }
        visit::visit_macro(self, of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        source("lib.rs", text, &mut findings).unwrap();
        findings
    }

    #[test]
    fn innocent_source_passes() {
        let text = "//! No std::time::Instant here.\nuse std::time::Duration;\n\
                    fn f() -> &'static str { \"std::net::UdpSocket\" }\nfn span() -> Duration { Duration::ZERO }";
        assert!(found(text).is_empty(), "{:?}", found(text));
    }

    #[test]
    fn each_kind_of_reach_is_found() {
        for text in [
            "fn f() { let _ = std::time::Instant::now(); }",
            "fn f(t: std::time::SystemTime) {}",
            "fn f() { std::thread::spawn(|| ()); }",
            "fn f() { let s = ::std::net::UdpSocket::bind(\"a\"); }",
            "fn f() { let r = rand::rng(); }",
            "use std::collections::hash_map::RandomState;",
            "async fn f() { tokio::task::yield_now().await; }",
            "use std::fs;",
        ] {
            assert_eq!(found(text).len(), 1, "{text}: {:?}", found(text));
        }
    }

    #[test]
    fn an_import_hides_nothing() {
        for text in [
            "use std::{fmt, time::{Duration, Instant}};",
            "use std::time::Instant as Clock;",
            "use std::time::*;",
            "use core::net::IpAddr;",
            "mod inner { fn f() { use std::thread; } }",
            "use std::time;\nfn f() { time::Instant::now(); }",
            "use std as base;\nfn f() { base::thread::yield_now(); }",
            "fn f() { println!(\"{:?}\", std::time::Instant::now()); }",
        ] {
            assert_eq!(found(text).len(), 1, "{text}: {:?}", found(text));
        }
    }

    #[test]
    fn a_finding_names_the_line_and_what_to_use() {
        let text = "use std::fmt;\n\nfn f() { std::thread::yield_now(); }";
        assert_eq!(
            found(text),
            [
                "lib.rs:3: a sans-IO crate must not use std::thread::yield_now; \
              a machine has no threads; its host drives it"
            ]
        );
    }

    #[test]
    fn a_package_of_the_outside_is_found() {
        let mut each = Crate {
            folder: "node".into(),
            dependencies: vec!["serde".into(), "ringweave-ids".into()],
            dev_dependencies: vec!["criterion".into()],
        };
        let mut findings = Vec::new();
        packages(&each, &mut findings);
        assert!(findings.is_empty());
        each.dependencies.push("tokio".into());
        packages(&each, &mut findings);
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn a_house_with_breaches_is_found_out() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("crates/ids");
        fs::create_dir_all(folder.join("src/deep")).unwrap();
        fs::write(
            folder.join("Cargo.toml"),
            "[dependencies]\ntokio = \"1\"\nringweave-net = \"1\"\n",
        )
        .unwrap();
        fs::write(folder.join("clippy.toml"), "").unwrap();
        fs::write(folder.join("src/lib.rs"), "mod deep;\n").unwrap();
        fs::write(folder.join("src/deep/mod.rs"), "use std::net::UdpSocket;\n").unwrap();
        fs::write(root.path().join("ARCHITECTURE.md"), "crates/attic\n").unwrap();
        let findings = crate::check(root.path()).unwrap().join("\n");
        for part in [
            "crates/ids (floor 0) imports crates/net",
            "names crates/attic",
            "does not tell of crates/ids",
            "may not depend on tokio",
            "crates/ids/src/deep/mod.rs:1",
        ] {
            assert!(
                findings.contains(part),
                "{part} is missing from\n{findings}"
            );
        }
    }
}
