//! Which peer is at which site, and who is near to whom.

use ringweave_ids::Random;

use crate::draw::{mix, share};

/// Where one peer is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// From the peer to the backbone, in microseconds one way.
    pub(super) access: u32,
    pub(super) site: u16,
}

/// The sites and the peers at them.
pub(super) struct Ground {
    /// By handle.
    places: Vec<Place>,
    /// By site.
    labels: Vec<String>,
    /// All handles, site by site, each site's in ascending order.
    residents: Vec<u32>,
    /// Where each site's residents begin; one more entry than sites.
    starts: Vec<u32>,
    /// For each site that has peers, itself and the nearest ones that have: at most [`KNOWN`].
    around: Vec<Vec<u16>>,
}

impl Ground {
    /// Spreads peers over sites in proportion to `people`, and gives each an access delay.
    ///
    /// `far` tells how far two sites are, by the index of their pair in a table.
    pub(super) fn new(
        labels: Vec<String>,
        people: &[u64],
        peers: u32,
        seed: u64,
        far: impl Fn(usize) -> u32,
    ) -> Self {
        let sums: Vec<u64> = people
            .iter()
            .scan(0, |sum, people| {
                *sum += people;
                Some(*sum)
            })
            .collect();
        let all = *sums.last().expect("a map has sites") as usize;
        let place = |peer| {
            let mut random = Random::new(mix(seed, u64::from(peer)));
            let lot = random.below(all) as u64;
            Place {
                access: access(&mut random),
                site: sums.partition_point(|&sum| sum <= lot) as u16,
            }
        };
        let places: Vec<Place> = (0..peers).map(place).collect();
        let (residents, starts) = settle(&places, labels.len());
        let mut ground = Self {
            places,
            labels,
            residents,
            starts,
            around: Vec::new(),
        };
        ground.around = (0..ground.sites())
            .map(|site| ground.nearest(site, KNOWN, |a, b| far(ground.pair(a, b))))
            .collect();
        ground
    }

    #[inline]
    pub(super) fn place(&self, peer: u32) -> Place {
        self.places[peer as usize]
    }

    /// Where a table with a row for each site has the entry of two places.
    #[inline]
    pub(super) fn index(&self, a: Place, b: Place) -> usize {
        self.pair(a.site, b.site)
    }

    /// Where a table with a row for each site has the entry of two sites.
    #[inline]
    pub(super) fn pair(&self, a: u16, b: u16) -> usize {
        usize::from(a) * self.labels.len() + usize::from(b)
    }

    pub(super) fn label(&self, peer: u32) -> &str {
        &self.labels[usize::from(self.place(peer).site)]
    }

    /// The least delay of any two peers, where `delay` takes the index of their sites' pair and the
    /// sum of their access delays, and grows with the latter; 0 if there are no two. O(sites^2).
    pub(super) fn least(&self, delay: impl Fn(usize, u32) -> u32) -> u32 {
        let mut firsts = vec![None; self.labels.len()];
        let mut least = u32::MAX;
        for site in 0..self.sites() {
            let peers = self.residents(site, u32::MAX).iter();
            let mut access: Vec<u32> = peers.map(|&peer| self.place(peer).access).collect();
            access.sort_unstable();
            firsts[usize::from(site)] = access.first().copied();
            if let [first, second, ..] = access[..] {
                least = least.min(delay(self.pair(site, site), first + second));
            }
        }
        let firsts = (0..).zip(firsts);
        let firsts: Vec<(u16, u32)> = firsts
            .filter_map(|(site, first)| Some((site, first?)))
            .collect();
        for (index, &(a, first)) in firsts.iter().enumerate() {
            for &(b, second) in &firsts[..index] {
                least = least.min(delay(self.pair(a, b), first + second));
            }
        }
        if least == u32::MAX { 0 } else { least }
    }

    /// A peer near to `peer`, below `limit` and not itself; see `Terrain::near`.
    pub(super) fn near(
        &self,
        peer: u32,
        limit: u32,
        random: &mut Random,
        far: impl Fn(u16, u16) -> u32,
    ) -> u32 {
        let site = self.place(peer).site;
        let around = &self.around[usize::from(site)];
        let (mut sites, mut found) = self.gather(around, peer, limit);
        if found < ENOUGH && around.len() == KNOWN {
            // Few handles are below the limit, so that the nearest sites hold too few of them.
            let around = self.nearest(site, usize::MAX, far);
            (sites, found) = self.gather(&around, peer, limit);
        }
        let mut drawn = random.below(found);
        for (site, count) in sites {
            if drawn < count {
                let residents = self.residents(site, limit);
                // Its own place is skipped: who comes after moves up by one.
                let own = residents.partition_point(|&other| other < peer);
                let is_passed = residents.get(own) == Some(&peer) && drawn >= own;
                return residents[drawn + usize::from(is_passed)];
            }
            drawn -= count;
        }
        unreachable!("the draw is below the sum of the counts")
    }

    /// The first sites of `around` that hold [`ENOUGH`] candidates together, with how many each
    /// holds, and the sum.
    fn gather(&self, around: &[u16], peer: u32, limit: u32) -> (Vec<(u16, usize)>, usize) {
        let mut sites = Vec::new();
        let mut found = 0;
        for &site in around {
            let residents = self.residents(site, limit);
            let count = residents.len() - usize::from(residents.binary_search(&peer).is_ok());
            sites.push((site, count));
            found += count;
            if found >= ENOUGH {
                break;
            }
        }
        (sites, found)
    }

    /// A site and the others that have peers, by distance, at most `most`; none if it has no peers.
    fn nearest(&self, site: u16, most: usize, far: impl Fn(u16, u16) -> u32) -> Vec<u16> {
        if self.residents(site, u32::MAX).is_empty() {
            return Vec::new();
        }
        let mut sites: Vec<(bool, u32, u16)> = (0..self.sites())
            .filter(|&other| !self.residents(other, u32::MAX).is_empty())
            .map(|other| (other != site, far(site, other), other))
            .collect();
        if most < sites.len() {
            sites.select_nth_unstable(most);
            sites.truncate(most);
        }
        sites.sort_unstable();
        sites.into_iter().map(|(_, _, other)| other).collect()
    }

    /// The peers of a site with handles below `limit`, in ascending order.
    fn residents(&self, site: u16, limit: u32) -> &[u32] {
        let site = usize::from(site);
        let span = self.starts[site] as usize..self.starts[site + 1] as usize;
        let residents = &self.residents[span];
        &residents[..residents.partition_point(|&peer| peer < limit)]
    }

    fn sites(&self) -> u16 {
        u16::try_from(self.labels.len()).expect("readers of maps bound the number of sites")
    }
}

/// How many candidates are enough to draw a near peer from. Our choice: about what a peer with a few
/// buckets or rings of neighbours would call its vicinity.
const ENOUGH: usize = 32;

/// How many sites around a site are known ahead: twice as many as there need be where each has a
/// candidate.
const KNOWN: usize = 2 * ENOUGH;

/// All handles site by site, and where each site's begin (a counting sort).
fn settle(places: &[Place], sites: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; sites + 1];
    for place in places {
        starts[usize::from(place.site) + 1] += 1;
    }
    for site in 0..sites {
        starts[site + 1] += starts[site];
    }
    let mut next = starts.clone();
    let mut residents = vec![0; places.len()];
    for (peer, place) in (0..).zip(places) {
        let next = &mut next[usize::from(place.site)];
        residents[*next as usize] = peer;
        *next += 1;
    }
    (residents, starts)
}

/// The least access delay, in microseconds one way. Our choice: fibre to the home.
pub(super) const LEAST_ACCESS: u32 = 300;

/// An access delay in microseconds one way: the least and an exponential of mean 2 ms, at most 10 ms.
/// Our choice: its tail is the 5 to 20 ms round trip of cable and DSL lines.
fn access(random: &mut Random) -> u32 {
    let wait = -share(random).ln() * 2_000.0;
    (LEAST_ACCESS + wait as u32).min(MOST_ACCESS)
}

const MOST_ACCESS: u32 = 10_000;
