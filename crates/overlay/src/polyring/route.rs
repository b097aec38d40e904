//! The five-case rule: where a message goes next, from two GUIDs alone (POLYRING.md, part 1).
//!
//! ```text
//! M <= LR-2              parent     another branch, or an ancestor above my parent
//! M  = LR-1, LD = LR-1   parent     my parent
//! M  = LR-1, LD >= LR    sibling    a sibling or below one
//! M  = LR,   LD = LR     here
//! M  = LR,   LD > LR     child      below me
//! ```
//!
//! LR, LD: lengths of the GUIDs of router and destination; M: leading steps they share.

use ringweave_ids::{Guid, Step};

/// The way on from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The destination is the router's own position.
    Here,
    /// To the position one level inward.
    Parent,
    /// To this position of the router's own ring.
    Sibling(Step),
    /// To this position of the router's child ring.
    Child(Step),
}

/// The way from `me` to `to`: a few compares, whatever the rings' sizes. A center peer's way to the
/// center itself is [`Direction::Here`].
pub fn route(me: &Guid, to: &Guid) -> Direction {
    let (mine, theirs) = (me.steps(), to.steps());
    let shared = me.shared(to);
    if shared == mine.len() {
        return theirs
            .get(shared)
            .map_or(Direction::Here, |&step| Direction::Child(step));
    }
    if shared + 1 == mine.len() {
        if let Some(&step) = theirs.get(shared) {
            return Direction::Sibling(step);
        }
        if shared == 0 {
            return Direction::Here;
        }
    }
    Direction::Parent
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    fn way(me: &[u32], to: &[u32]) -> Direction {
        route(&Guid::of(me), &Guid::of(to))
    }

    fn step(coordinate: u32) -> Step {
        Step { coordinate, tag: 0 }
    }

    #[test]
    fn the_published_table_holds_row_by_row() {
        assert_eq!(way(&[4, 10, 34], &[7, 1]), Direction::Parent);
        assert_eq!(way(&[4, 10, 34], &[4]), Direction::Parent);
        assert_eq!(way(&[4, 10, 34], &[4, 10]), Direction::Parent);
        assert_eq!(way(&[4, 10, 34], &[4, 10, 9]), Direction::Sibling(step(9)));
        assert_eq!(
            way(&[4, 10, 34], &[4, 10, 9, 2]),
            Direction::Sibling(step(9))
        );
        assert_eq!(way(&[4, 10, 34], &[4, 10, 34]), Direction::Here);
        assert_eq!(
            way(&[4, 10, 34], &[4, 10, 34, 9875]),
            Direction::Child(step(9875))
        );
        assert_eq!(
            way(&[4, 10, 34], &[4, 10, 34, 1, 2, 3]),
            Direction::Child(step(1))
        );
        assert_eq!(way(&[3], &[]), Direction::Here);
        assert_eq!(way(&[3], &[5, 1]), Direction::Sibling(step(5)));
    }

    #[test]
    fn another_tag_is_another_position() {
        let me = Guid::center().child(Step {
            coordinate: 1,
            tag: 7,
        });
        let to = Guid::center().child(Step {
            coordinate: 1,
            tag: 8,
        });
        assert_eq!(
            route(&me, &to),
            Direction::Sibling(Step {
                coordinate: 1,
                tag: 8
            })
        );
    }

    /// A random tree as the set of its GUIDs: every prefix of a GUID is in it, too.
    fn trees() -> impl Strategy<Value = Vec<Vec<u32>>> {
        prop::collection::vec(prop::collection::vec(0..6_u32, 1..7), 1..40).prop_map(|leaves| {
            let prefixes = |leaf: Vec<u32>| (1..=leaf.len()).map(move |n| leaf[..n].to_vec());
            leaves
                .into_iter()
                .flat_map(prefixes)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect()
        })
    }

    proptest! {
        #[test]
        fn any_peer_reaches_any_peer_of_any_tree_within_the_bound(
            tree in trees(), from: prop::sample::Index, to: prop::sample::Index,
        ) {
            let (from, to) = (from.get(&tree), to.get(&tree));
            let bound = (from.len() - 1) + (to.len() - 1) + 1;
            let mut at = from.clone();
            let mut seen = BTreeSet::new();
            while at != *to {
                prop_assert!(seen.insert(at.clone()), "a loop at {at:?}");
                match way(&at, to) {
                    Direction::Here => prop_assert!(false, "stopped at {at:?}"),
                    Direction::Parent => { at.pop(); }
                    Direction::Sibling(next) => *at.last_mut().unwrap() = next.coordinate,
                    Direction::Child(next) => at.push(next.coordinate),
                }
                prop_assert!(tree.contains(&at), "nobody at {at:?}");
            }
            prop_assert!(seen.len() <= bound, "{} hops, bound {bound}", seen.len());
            prop_assert_eq!(way(&at, to), Direction::Here);
        }
    }
}
