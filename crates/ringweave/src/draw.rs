//! Tables, trees and QR codes for people.

use std::{collections::BTreeSet, fmt::Write as _};

use qrcode::{EcLevel, QrCode, render::unicode};
use ringweave_api::body::{TreeAnswer, TreePeerAnswer};
use ringweave_ids::{Guid, PeerId};

/// Lines of aligned columns, two blanks between them.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            write!(line, "{cell:<width$}  ").expect("a String takes all");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values, the values in one column. Names without a value are left out.
pub(crate) fn pairs(pairs: &[(&str, Option<String>)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in pairs {
        if let Some(value) = value {
            writeln!(text, "{name:<width$}  {value}").expect("a String takes all");
        }
    }
    text
}

/// The rings: each peer below the one whose ring it is in.
///
/// ```text
/// [0]  k3v7q2m4xz  anna
/// ├─ [0.0]  ...
/// └─ [0.2]  ...
///    └─ [0.2.5]  ...
/// [1]  ...
/// ```
pub(crate) fn tree(answer: &TreeAnswer, me: Option<&PeerId>) -> String {
    let mut peers: Vec<&TreePeerAnswer> = answer.peers.iter().collect();
    peers.sort_by(|a, b| (&a.guid, &a.peer_id).cmp(&(&b.guid, &b.peer_id)));
    let held: BTreeSet<&Guid> = peers.iter().map(|peer| &peer.guid).collect();
    let above: Vec<Option<Guid>> = peers
        .iter()
        .map(|peer| holder_above(&peer.guid, &held))
        .collect();
    let mut text = String::new();
    for (n, peer) in peers.iter().enumerate() {
        text.push_str(&branches(n, &above, &peers));
        write!(text, "{}  {}", peer.guid, peer.peer_id.short()).expect("a String takes all");
        if let Some(name) = &peer.name {
            write!(text, "  {name}").expect("a String takes all");
        }
        if me == Some(&peer.peer_id) {
            text.push_str("  (this peer)");
        }
        text.push('\n');
    }
    let rings: BTreeSet<Option<Guid>> = peers.iter().map(|peer| peer.guid.parent()).collect();
    let depth = peers
        .iter()
        .map(|peer| peer.guid.depth())
        .max()
        .unwrap_or(0);
    let more = if answer.truncated {
        "; there may be more"
    } else {
        ""
    };
    writeln!(
        text,
        "{} peers in {} rings, {depth} levels{more}",
        peers.len(),
        rings.len()
    )
    .expect("a String takes all");
    text
}

/// The nearest place inward that somebody holds.
fn holder_above(guid: &Guid, held: &BTreeSet<&Guid>) -> Option<Guid> {
    let mut place = guid.parent()?;
    while !held.contains(&place) {
        place = place.parent()?;
    }
    Some(place)
}

/// What stands before the n-th peer: a bar for each open branch, and its own twig.
fn branches(n: usize, above: &[Option<Guid>], peers: &[&TreePeerAnswer]) -> String {
    let mut pieces = Vec::new();
    let mut place = above[n].clone();
    let mut is_own = true;
    while let Some(parent) = place {
        // Peers are in order, so a branch goes on if a later peer hangs on the same one.
        let goes_on = above[n + 1..]
            .iter()
            .any(|other| other.as_ref() == Some(&parent));
        pieces.push(match (is_own, goes_on) {
            (true, true) => "├─ ",
            (true, false) => "└─ ",
            (false, true) => "│  ",
            (false, false) => "   ",
        });
        is_own = false;
        place = peers
            .iter()
            .position(|peer| peer.guid == parent)
            .and_then(|at| above[at].clone());
    }
    pieces.reverse();
    pieces.concat()
}

/// A QR code of half blocks; nothing if the text is too long for one that fits on a screen.
pub(crate) fn qr(text: &str) -> Option<String> {
    // Capitals take the alphanumeric mode, which makes the code a third smaller.
    let code = QrCode::with_error_correction_level(text.to_uppercase(), EcLevel::L).ok()?;
    Some(
        code.render::<unicode::Dense1x2>()
            .dark_color(unicode::Dense1x2::Light)
            .light_color(unicode::Dense1x2::Dark)
            .build(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(places: &[&[u32]]) -> TreeAnswer {
        let peer = |place: &&[u32]| TreePeerAnswer {
            guid: Guid::of(place),
            peer_id: PeerId::from_bytes([0; 32]),
            name: None,
        };
        TreeAnswer {
            peers: places.iter().map(peer).collect(),
            truncated: false,
        }
    }

    #[test]
    fn columns_stand_under_their_titles() {
        let text = table(
            &["A", "LONG"],
            &[
                vec!["wide".into(), "x".into()],
                vec!["ü".into(), "y".into()],
            ],
        );
        assert_eq!(text, "A     LONG\nwide  x\nü     y\n");
    }

    #[test]
    fn a_tree_has_its_branches() {
        let text = tree(
            &answer(&[&[1], &[0], &[0, 2], &[0, 0], &[0, 2, 5], &[0, 3]]),
            None,
        );
        let expected = "\
[0]  aaaaaaaaaa
├─ [0.0]  aaaaaaaaaa
├─ [0.2]  aaaaaaaaaa
│  └─ [0.2.5]  aaaaaaaaaa
└─ [0.3]  aaaaaaaaaa
[1]  aaaaaaaaaa
6 peers in 3 rings, 3 levels
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_peer_whose_parent_is_missing_hangs_on_the_next_one() {
        let text = tree(&answer(&[&[0], &[0, 2, 5], &[4, 1]]), None);
        assert!(
            text.starts_with("[0]  aaaaaaaaaa\n└─ [0.2.5]  aaaaaaaaaa\n[4.1]"),
            "{text}"
        );
    }

    #[test]
    fn a_qr_code_fits_an_invite_of_everyday_size() {
        let code = qr(&format!("ringweave1{}", "ab7".repeat(150))).unwrap();
        assert!(code.lines().all(|line| line.chars().count() <= 100));
        assert!(qr(&"a".repeat(10_000)).is_none());
    }
}
