//! GUIDs: where in a network somebody sits. In a polyring they are lists of coordinates; where peers
//! are arranged by number, they are points.
//!
//! ```text
//! center ring   [0]  [1]  [2]                  a point   [#5a02…]
//! child of [1]       [1.0] [1.1] [1.2]
//! ```
//!
//! A step also carries the position's *tag* (the low 32 bits of its permanent id), so that an
//! address survives the renumbering of a ring. People write and read coordinates only.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use smallvec::SmallVec;
use thiserror::Error;

use crate::Point;

/// The longest GUID accepted from text or wire, in levels.
pub const MAX_DEPTH: usize = 32;

/// One level of a GUID.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Step {
    /// The label of the position in its ring, from 0.
    pub coordinate: u32,
    /// The low 32 bits of the position's permanent id; 0 where it is not known.
    pub tag: u32,
}

impl Step {
    /// Whether both name the same position, as far as they tell.
    #[inline]
    pub const fn matches(self, other: Self) -> bool {
        self.coordinate == other.coordinate
            && (self.tag == other.tag || self.tag == 0 || other.tag == 0)
    }
}

/// A place in a polyring: the steps from the center ring outward. The empty list is the center. Or a
/// point, which has no steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(Place);

/// Either kind of place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Place {
    Steps(SmallVec<[Step; 4]>),
    Point(Point),
}

impl Default for Place {
    fn default() -> Self {
        Self::Steps(SmallVec::new())
    }
}

impl From<Point> for Guid {
    fn from(point: Point) -> Self {
        Self(Place::Point(point))
    }
}

impl FromIterator<Step> for Guid {
    fn from_iter<T: IntoIterator<Item = Step>>(steps: T) -> Self {
        Self(Place::Steps(steps.into_iter().collect()))
    }
}

impl Guid {
    /// The place that holds the center ring: no steps.
    pub fn center() -> Self {
        Self::default()
    }

    /// A GUID of known coordinates and unknown tags.
    pub fn of(coordinates: &[u32]) -> Self {
        let step = |&coordinate| Step { coordinate, tag: 0 };
        coordinates.iter().map(step).collect()
    }

    /// The place one level outward of this one.
    #[must_use]
    pub fn child(&self, step: Step) -> Self {
        self.steps().iter().copied().chain([step]).collect()
    }

    /// The point that it is, if it is one.
    #[inline]
    pub fn point(&self) -> Option<Point> {
        match self.0 {
            Place::Steps(_) => None,
            Place::Point(point) => Some(point),
        }
    }

    /// The place one level inward; the center for a place in the center ring, nothing for the center.
    pub fn parent(&self) -> Option<Self> {
        let (_, inward) = self.steps().split_last()?;
        Some(inward.iter().copied().collect())
    }

    /// The steps, from the center outward; a point has none.
    #[inline]
    pub fn steps(&self) -> &[Step] {
        match &self.0 {
            Place::Steps(steps) => steps,
            Place::Point(_) => &[],
        }
    }

    /// The steps, to be corrected in place.
    pub fn steps_mut(&mut self) -> &mut [Step] {
        match &mut self.0 {
            Place::Steps(steps) => steps,
            Place::Point(_) => &mut [],
        }
    }

    /// The level: 1 in the center ring, 0 for the center itself and for a point.
    #[inline]
    pub fn depth(&self) -> usize {
        self.steps().len()
    }

    /// How many leading steps name the same positions.
    #[inline]
    pub fn shared(&self, other: &Self) -> usize {
        let pairs = self.steps().iter().zip(other.steps());
        pairs
            .take_while(|(mine, theirs)| mine.matches(**theirs))
            .count()
    }

    /// Whether both name the same place, as far as their tags tell.
    #[inline]
    pub fn matches(&self, other: &Self) -> bool {
        self.point() == other.point()
            && self.depth() == other.depth()
            && self.shared(other) == self.depth()
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(point) = self.point() {
            return write!(f, "[#{point}]");
        }
        f.write_str("[")?;
        for (level, step) in self.steps().iter().enumerate() {
            if level > 0 {
                f.write_str(".")?;
            }
            write!(f, "{}", step.coordinate)?;
        }
        f.write_str("]")
    }
}

/// Why a text is no GUID.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GuidError {
    /// The brackets are missing.
    #[error("a GUID stands in square brackets, like [4.2.17], but this is {0:?}")]
    Brackets(String),
    /// A step is no coordinate.
    #[error("{1:?} in {0:?} is no coordinate: coordinates are whole numbers from 0 to 4294967295")]
    Coordinate(String, String),
    /// A point that is none.
    #[error("a point is written as 32 hexadecimal digits, but this is {0:?}")]
    Point(String),
    /// More levels than [`MAX_DEPTH`].
    #[error("the GUID has {0} levels; at most {MAX_DEPTH} are allowed")]
    Depth(usize),
}

impl FromStr for Guid {
    type Err = GuidError;

    /// Reads `[4.2.17]`, or `[#` and the 32 digits of a point; `[]` is the center.
    fn from_str(text: &str) -> Result<Self, GuidError> {
        let inner = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .ok_or_else(|| GuidError::Brackets(text.into()))?;
        if inner.is_empty() {
            return Ok(Self::center());
        }
        if let Some(point) = inner.strip_prefix('#') {
            return Ok(point.parse::<Point>()?.into());
        }
        let levels = inner.split('.').count();
        if levels > MAX_DEPTH {
            return Err(GuidError::Depth(levels));
        }
        let step = |word: &str| {
            let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
            let coordinate = if digits { word.parse().ok() } else { None };
            coordinate
                .map(|coordinate| Step { coordinate, tag: 0 })
                .ok_or_else(|| GuidError::Coordinate(text.into(), word.into()))
        };
        inner.split('.').map(step).collect()
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(D::Error::custom)
        } else {
            let guid = Self(Place::deserialize(deserializer)?);
            if guid.depth() > MAX_DEPTH {
                return Err(D::Error::custom("a GUID deeper than allowed"));
            }
            Ok(guid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let point = "[#00112233445566778899aabbccddeeff]";
        for text in ["[]", "[0]", "[4.10.34.9875]", point] {
            assert_eq!(text.parse::<Guid>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_guid_is_refused() {
        for text in [
            "",
            "4.2",
            "[4.2",
            "[4..2]",
            "[.]",
            "[-1]",
            "[+1]",
            "[4294967296]",
            "[ 1]",
            "[a]",
            "[#a]",
        ] {
            assert!(text.parse::<Guid>().is_err(), "{text}");
        }
        let deep = format!("[{}]", vec!["1"; MAX_DEPTH + 1].join("."));
        assert_eq!(deep.parse::<Guid>(), Err(GuidError::Depth(MAX_DEPTH + 1)));
    }

    #[test]
    fn a_tag_that_is_not_known_matches_any() {
        let told = Guid::center().child(Step {
            coordinate: 3,
            tag: 77,
        });
        let other = Guid::center().child(Step {
            coordinate: 3,
            tag: 78,
        });
        assert!(told.matches(&Guid::of(&[3])));
        assert!(!told.matches(&other));
        assert!(!told.matches(&Guid::of(&[3, 0])));
    }
}
