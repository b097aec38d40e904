//! Where a peer is in its life, in the topologies that know four parts of it.

/// The part of a peer's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not started.
    #[default]
    Out,
    /// Looking for its place, or for the word of those that know it there.
    Joining,
    /// In its place.
    Placed,
    /// Gone for good.
    Left,
}
