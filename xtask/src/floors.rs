//! Which crate stands on which floor. Imports point to lower floors only.

use crate::manifest::Crate;

/// The floors: a crate may import crates of lower floors, so two on one floor never see each other.
pub(crate) const FLOORS: &[(&str, u8)] = &[
    ("ids", 0),
    ("overlay", 1),
    ("node", 2),
    ("sim", 3),
    ("net", 3),
    ("api", 4),
    ("ringweave", 5),
];

fn floor(folder: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == folder)
        .map(|(_, floor)| *floor)
}

/// Finds imports that do not point down, and crates without a floor.
pub(crate) fn check(crates: &[Crate], findings: &mut Vec<String>) {
    for each in crates {
        let name = &each.folder;
        let Some(own) = floor(name) else {
            findings.push(format!(
                "crates/{name} stands on no floor; give it one in xtask/src/floors.rs"
            ));
            continue;
        };
        for other in each.inner() {
            match floor(other) {
                Some(lower) if lower < own => {}
                Some(upper) => findings.push(format!(
                    "crates/{name} (floor {own}) imports crates/{other} (floor {upper}); imports point down only"
                )),
                None => findings.push(format!("crates/{name} imports crates/{other}, which stands on no floor")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(folder: &str, dependencies: &[&str], dev_dependencies: &[&str]) -> Vec<String> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let each = Crate {
            folder: folder.into(),
            dependencies: own(dependencies),
            dev_dependencies: own(dev_dependencies),
        };
        let mut findings = Vec::new();
        check(&[each], &mut findings);
        findings
    }

    #[test]
    fn an_import_downward_passes() {
        assert!(findings("net", &["ringweave-node", "ringweave-ids", "tokio"], &[]).is_empty());
    }

    #[test]
    fn an_import_upward_is_found_even_among_test_dependencies() {
        assert_eq!(findings("node", &["ringweave-net"], &[]).len(), 1);
        assert_eq!(findings("overlay", &[], &["ringweave"]).len(), 1);
    }

    #[test]
    fn sim_and_net_never_see_each_other() {
        assert_eq!(findings("sim", &["ringweave-net"], &[]).len(), 1);
        assert_eq!(findings("net", &["ringweave-sim"], &[]).len(), 1);
    }

    #[test]
    fn a_crate_without_a_floor_is_found() {
        assert_eq!(findings("attic", &[], &[]).len(), 1);
    }
}
