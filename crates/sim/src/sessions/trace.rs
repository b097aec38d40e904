//! A recorded trace of sessions, `node,up_s,down_s` in seconds, and the lives that follow it.
//!
//! ```text
//!   trace   |-- first quarter --|------- middle half -------|-- last quarter --|
//!                                     T = 0 |-- run --|
//! ```
//!
//! A trace is often coarse: a crawler that looks once in a while sees sessions begin and end only
//! when it looks, and those that run when it stops are cut there.

use std::{collections::BTreeMap, path::Path};

use ringweave_ids::Random;

use super::{Life, Lives, bounded, within};
use crate::{
    FileError,
    read::{Line, Text},
};

/// One session; times in microseconds from the trace's own zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    node: u64,
    up: i64,
    down: i64,
}

/// A trace.
pub(super) struct Trace {
    text: Text,
    /// By `up`; between those of a node there are pauses. At least one.
    sessions: Vec<Session>,
    /// How coarse it is, in microseconds: the length of its shortest session, because what a crawl
    /// saw once takes for that long. At most a fiftieth of the trace, so that a small trace of long
    /// sessions is taken at its word.
    grain: i64,
}

impl Trace {
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        Self::parse(Text::read(path)?)
    }

    fn parse(text: Text) -> Result<Self, FileError> {
        let mut sessions: Vec<Session> = Vec::new();
        let mut before = (0, "");
        let mut shortest = i64::MAX;
        // Where each node's latest session is, and the line that said when it ends.
        let mut latest: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        let mut overlaps = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if index == 0 && line.is_header() {
                named(&line)?;
                continue;
            }
            let (session, up) = session(&line)?;
            if session.up < before.0 {
                let problem = format!(
                    "{up} comes after {} in the line before; a trace is ordered by up_s",
                    before.1
                );
                return Err(line.field_error("up_s", problem));
            }
            before = (session.up, up);
            shortest = shortest.min(session.down - session.up);
            if let Some((of, told)) = latest.get_mut(&session.node)
                && session.up <= sessions[*of].down
            {
                let down = &mut sessions[*of].down;
                let overlap = session.down.min(*down) - session.up;
                overlaps.push((overlap, line, up, *told));
                if *down < session.down {
                    *down = session.down;
                    *told = line.number;
                }
                continue;
            }
            latest.insert(session.node, (sessions.len(), line.number));
            sessions.push(session);
        }
        let Some(first) = sessions.first() else {
            return Err(text.error("no session; a trace has rows of node,up_s,down_s"));
        };
        let grain = shortest.min((last(&sessions) - first.up) / 50);
        // Less than a grain is within what the trace can tell: one session was taken for two.
        if let Some((_, line, up, told)) = overlaps.iter().find(|(overlap, ..)| *overlap > grain) {
            let problem = format!(
                "{up} lies within the session of line {told}; sessions of one node do not overlap"
            );
            return Err(line.field_error("up_s", problem));
        }
        Ok(Self {
            text,
            sessions,
            grain,
        })
    }

    /// The lives of a run of `end` microseconds from about the trace's fullest moment.
    ///
    /// Nodes are taken in random order, again and again, each time as a copy that is moved in time by
    /// up to half a grain either way, until `peers` of the copies are up at T = 0. Those that are not
    /// come later if their node does, so that arrivals keep their proportion to the population.
    pub(super) fn lives(&self, peers: u32, end: i64, seed: u64) -> Result<Lives, FileError> {
        let at = self.fullest(end)?;
        let (grain, first, last) = (self.grain, self.first(), last(&self.sessions));
        let nodes = self.by_node(at - grain, at + end + grain);
        let mut order: Vec<&Vec<Session>> = nodes.values().collect();
        let mut random = Random::new(seed);
        let mut starters = 0;
        let mut copies = 0u32;
        let mut lives = Vec::new();
        // By (up, copy): the order in which newcomers get their handles.
        let mut later = Vec::new();
        'rounds: loop {
            let all = order.len();
            random.shuffle(&mut order, all);
            for sessions in &order {
                if starters == peers {
                    break 'rounds;
                }
                let shift = random.below(grain as usize + 1) as i64 - grain / 2;
                let window = Window {
                    start: (at + shift).clamp(first, last - end),
                    end,
                    cut: last - grain,
                };
                let mut is_up = false;
                window.follow(sessions, |up, down| {
                    is_up |= up == 0;
                    if is_up {
                        lives.push(Life {
                            who: starters,
                            up,
                            down,
                        });
                    } else {
                        later.push((up, copies, down));
                    }
                });
                starters += u32::from(is_up);
                copies += 1;
                bounded(lives.len() + later.len())?;
            }
        }
        later.sort_unstable();
        let mut handles = BTreeMap::new();
        for (up, copy, down) in later {
            let next = peers + handles.len() as u32;
            let who = *handles.entry(copy).or_insert(next);
            lives.push(Life { who, up, down });
        }
        lives.sort_unstable_by_key(|life| (life.up, life.who));
        Ok(Lives {
            lives,
            handles: peers + handles.len() as u32,
            at_start: peers,
        })
    }

    /// The moment in the middle half of the trace when most sessions run and from which `end`
    /// microseconds are left in the trace; the earliest of equals. A run longer than three quarters
    /// of the trace starts before the middle half, at the only moment from which it fits.
    fn fullest(&self, end: i64) -> Result<i64, FileError> {
        let first = self.first();
        let span = last(&self.sessions) - first;
        if end > span {
            let seconds = span as f64 / 1e6;
            let problem = format!("the trace spans {seconds} s, which is less than the run");
            return Err(self.text.error(problem));
        }
        let high = (first + span / 4 * 3).min(last(&self.sessions) - end);
        let low = (first + span / 4).min(high);
        let ups: Vec<i64> = self.sessions.iter().map(|session| session.up).collect();
        let mut downs: Vec<i64> = self.sessions.iter().map(|session| session.down).collect();
        downs.sort_unstable();
        let running = |at: i64| {
            ups.partition_point(|&up| up <= at) - downs.partition_point(|&down| down <= at)
        };
        // The number only grows where a session begins.
        let moments = ups.iter().copied().filter(|up| (low..=high).contains(up));
        let (most, at) = std::iter::once(low)
            .chain(moments)
            .map(|at| (running(at), at))
            .fold(
                (0, low),
                |best, new| if new.0 > best.0 { new } else { best },
            );
        if most == 0 {
            return Err(self.text.error("no session runs when T = 0 would be"));
        }
        Ok(at)
    }

    /// The sessions that overlap a span, by node.
    fn by_node(&self, from: i64, to: i64) -> BTreeMap<u64, Vec<Session>> {
        let mut nodes: BTreeMap<u64, Vec<Session>> = BTreeMap::new();
        let overlap = |it: &&Session| it.up < to && from < it.down;
        for session in self.sessions.iter().filter(overlap) {
            nodes.entry(session.node).or_default().push(*session);
        }
        nodes
    }

    /// When the first session begins.
    fn first(&self) -> i64 {
        self.sessions[0].up
    }
}

/// When the last session ends.
fn last(sessions: &[Session]) -> i64 {
    let downs = sessions.iter().map(|session| session.down);
    downs.fold(i64::MIN, i64::max)
}

/// The part of the trace that one copy lives through.
struct Window {
    /// Where T = 0 lies in the trace for this copy.
    start: i64,
    /// Microseconds from T = 0 to the end of the run.
    end: i64,
    /// A session that ends after this was cut by the end of the trace.
    cut: i64,
}

impl Window {
    /// Tells the lives (up, down) of a copy whose sessions these are.
    fn follow(&self, sessions: &[Session], mut tell: impl FnMut(i64, Option<i64>)) {
        for session in sessions.iter().filter(|it| self.start < it.down) {
            let up = (session.up - self.start).max(0);
            if up > 0 && up >= self.end {
                break;
            }
            let down = if session.down > self.cut {
                i64::MAX
            } else {
                session.down - self.start
            };
            tell(up, within(down, self.end));
        }
    }
}

/// # Errors
/// If a row of names is not that of a trace.
fn named(line: &Line<'_>) -> Result<(), FileError> {
    let names = line.fields();
    if names.iter().map(|name| name.to_lowercase()).eq(COLUMNS) {
        return Ok(());
    }
    Err(line.error(format!(
        "{:?} is no row of a trace; its columns are node,up_s,down_s",
        line.text
    )))
}

/// The session of a line, and its `up_s` as written.
fn session<'a>(line: &Line<'a>) -> Result<(Session, &'a str), FileError> {
    let fields = line.fields();
    let &[node, up, down] = fields.as_slice() else {
        let columns = fields.len();
        let problem = format!("{columns} columns where a trace has three: node,up_s,down_s");
        return Err(line.error(problem));
    };
    let moment = |field, text| {
        let seconds = line.figure(field, text, MOST_S, "time in seconds")?;
        Ok::<i64, FileError>((seconds * 1e6).round() as i64)
    };
    let session = Session {
        node: node.parse().map_err(|_| {
            let problem = format!("{node:?} is no whole number of a node");
            line.field_error("node", problem)
        })?,
        up: moment("up_s", up)?,
        down: moment("down_s", down)?,
    };
    if session.down <= session.up {
        let problem = format!("{down} is not after up_s {up}");
        return Err(line.field_error("down_s", problem));
    }
    Ok((session, up))
}

const COLUMNS: [&str; 3] = ["node", "up_s", "down_s"];

/// The latest time of a trace, in seconds: past any calendar in seconds, and far from where
/// microseconds overflow.
const MOST_S: f64 = 1e12;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Trace, FileError> {
        Trace::parse(Text::new("churn.csv", text))
    }

    #[track_caller]
    fn refuses(text: &str, expected: &str) {
        let error = parse(text).err().expect("the trace is wrong").to_string();
        assert_eq!(error, format!("churn.csv{expected}"));
    }

    /// 1,000 nodes that come one a second, stay for 400 s, pause for 100 s, and so on.
    fn rota() -> Trace {
        let mut rows: Vec<(u64, u64)> = (0..1_000)
            .flat_map(|node| (0..20).map(move |turn| (turn * 500 + node % 500, node)))
            .collect();
        rows.sort_unstable();
        let text: String = rows
            .iter()
            .map(|(up, node)| format!("{node},{up},{}\n", up + 400))
            .collect();
        parse(&text).unwrap()
    }

    fn population(lives: &Lives, second: i64) -> usize {
        let at = second * 1_000_000;
        let holds = |it: &&Life| it.up <= at && it.down.is_none_or(|down| at < down);
        lives.lives.iter().filter(holds).count()
    }

    #[test]
    fn a_header_comments_and_spaces_are_allowed() {
        let trace = parse("# from a crawl\nnode, up_s, down_s\n\n7, 0.5, 2\n8 1 3e0\n").unwrap();
        let expected = Session {
            node: 7,
            up: 500_000,
            down: 2_000_000,
        };
        assert_eq!(trace.sessions[0], expected);
        assert_eq!(trace.sessions.len(), 2);
    }

    #[test]
    fn rows_out_of_order_are_refused() {
        refuses(
            "# made\n1,200,300\n2,100,300\n",
            ":3: up_s: 100 comes after 200 in the line before; a trace is ordered by up_s",
        );
        refuses("1,60,50", ":1: down_s: 50 is not after up_s 60");
        refuses("1,60,60", ":1: down_s: 60 is not after up_s 60");
    }

    #[test]
    fn overlapping_sessions_of_a_node_are_refused() {
        refuses(
            "1,0,100\n2,10,20\n1,90,200",
            ":3: up_s: 90 lies within the session of line 1; sessions of one node do not overlap",
        );
        refuses(
            "1,0,100\n1,10,20\n",
            ":2: up_s: 10 lies within the session of line 1; sessions of one node do not overlap",
        );
    }

    #[test]
    fn sessions_that_touch_or_overlap_by_less_than_the_grain_are_one() {
        for up in [99, 100] {
            let trace = parse(&format!("1,0,100\n2,1,3\n1,{up},200")).unwrap();
            assert_eq!(trace.grain, 2_000_000);
            let spans = trace
                .sessions
                .iter()
                .map(|it| (it.node, it.down / 1_000_000));
            assert!(spans.eq([(1, 200), (2, 3)]));
        }
    }

    #[test]
    fn fields_that_are_no_figures_are_refused() {
        refuses("1,a,2", ":1: up_s: \"a\" is no time in seconds");
        refuses("1,0,nan", ":1: down_s: \"nan\" is no time in seconds");
        refuses("1,0,inf", ":1: down_s: \"inf\" is no time in seconds");
        refuses("1,-1,2", ":1: up_s: \"-1\" is no time in seconds");
        refuses("1.5,0,2", ":1: node: \"1.5\" is no whole number of a node");
        refuses("-1,0,2", ":1: node: \"-1\" is no whole number of a node");
    }

    #[test]
    fn other_files_are_refused() {
        let three = "columns where a trace has three: node,up_s,down_s";
        refuses("1,2", &format!(":1: 2 {three}"));
        refuses("1,2,3\n1,2,3,4", &format!(":2: 4 {three}"));
        refuses(
            "up_s,down_s,node\n",
            ":1: \"up_s,down_s,node\" is no row of a trace; its columns are node,up_s,down_s",
        );
        let nothing = ": no session; a trace has rows of node,up_s,down_s";
        refuses("", nothing);
        refuses("# empty\nnode,up_s,down_s\n", nothing);
    }

    #[test]
    fn a_trace_shorter_than_the_run_is_refused() {
        let trace = parse("1,0,100\n").unwrap();
        assert!(trace.lives(1, 100_000_000, 1).is_ok());
        let error = trace.lives(1, 100_000_001, 1).unwrap_err().to_string();
        let expected = "churn.csv: the trace spans 100 s, which is less than the run";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_trace_with_nobody_up_in_its_middle_is_refused() {
        let trace = parse("1,0,1\n2,99,100\n").unwrap();
        let error = trace.lives(1, 1_000_000, 1).unwrap_err().to_string();
        assert_eq!(error, "churn.csv: no session runs when T = 0 would be");
    }

    #[test]
    fn a_run_starts_when_most_sessions_run() {
        let text = "1,0,100\n2,30,50\n3,40,60\n4,41,42\n5,90,100\n6,91,100\n7,92,100\n8,93,100\n";
        let trace = parse(text).unwrap();
        assert_eq!(trace.fullest(10_000_000).unwrap(), 41_000_000);
        // From 41 s on it would not fit.
        assert_eq!(trace.fullest(60_000_000).unwrap(), 40_000_000);
        assert_eq!(trace.fullest(100_000_000).unwrap(), 0);
    }

    #[test]
    fn any_number_of_peers_follows_the_trace() {
        let trace = rota();
        for peers in [10, 799, 800, 5_000] {
            let lives = trace.lives(peers, 2_000_000_000, 1).unwrap();
            assert_eq!(population(&lives, 0), peers as usize);
            for second in [1, 500, 1_999] {
                let share = population(&lives, second) as f64 / f64::from(peers);
                let slack = 0.05 + 1.5 / f64::from(peers).sqrt();
                assert!((share - 1.0).abs() < slack, "{peers} at {second}: {share}");
            }
        }
    }

    #[test]
    fn a_peer_that_returns_keeps_its_handle() {
        let lives = rota().lives(800, 2_000_000_000, 1).unwrap();
        // A node is up for four fifths of the time, and comes every 500 s.
        assert!((950..1_050).contains(&lives.handles), "{}", lives.handles);
        let each = lives.lives.len() as f64 / f64::from(lives.handles);
        assert!((4.0..5.0).contains(&each), "{each}");
    }

    #[test]
    fn lives_of_a_peer_do_not_overlap_and_come_in_order() {
        let lives = rota().lives(3_000, 2_000_000_000, 9).unwrap();
        let order: Vec<_> = lives.lives.iter().map(|it| (it.up, it.who)).collect();
        assert!(order.is_sorted());
        let mut free = vec![Some(-1); lives.handles as usize];
        for life in &lives.lives {
            let free = &mut free[life.who as usize];
            assert!(free.is_some_and(|free| free < life.up), "{life:?}");
            assert!(life.down.is_none_or(|down| life.up < down), "{life:?}");
            assert_eq!(life.up == 0, life.who < lives.at_start && *free == Some(-1));
            *free = life.down;
        }
    }

    #[test]
    fn a_coarse_trace_makes_no_steps() {
        // A look each 100 s; each of 500 peers stays for 1 to 50 looks.
        let mut rows: Vec<(u64, u64, u64)> = (0..5_000)
            .map(|node| (node % 100 * 100, node, (node % 100 + 1 + node / 100) * 100))
            .collect();
        rows.sort_unstable();
        let rows = rows
            .iter()
            .map(|(up, node, down)| format!("{node},{up},{down}\n"));
        let trace = parse(&rows.collect::<String>()).unwrap();
        assert_eq!(trace.grain, 100_000_000);
        let lives = trace.lives(10_000, 1_000_000_000, 1).unwrap();
        let mut gone = [0; 20];
        for down in lives.lives.iter().filter_map(|life| life.down) {
            gone[down as usize / 50_000_000] += 1;
        }
        let (least, most) = (gone.iter().min().unwrap(), gone.iter().max().unwrap());
        assert!(most < &(least * 3 / 2), "{gone:?}");
    }

    #[test]
    fn what_the_end_of_the_trace_cuts_does_not_end() {
        let trace = parse("1,0,100\n2,0,60\n").unwrap();
        let lives = trace.lives(20, 90_000_000, 1).unwrap();
        let endless = lives.lives.iter().filter(|life| life.down.is_none());
        assert_eq!(endless.count(), 10);
    }

    #[test]
    fn the_same_seed_gives_the_same_lives() {
        let draw = |seed| rota().lives(500, 1_000_000_000, seed).unwrap();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
