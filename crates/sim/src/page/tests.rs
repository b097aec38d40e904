use super::{escape, grouped, render};
use crate::report::{
    Broadcast, Invariants, Level, Load, Outcome, Quantiles, Report, Series, State, Stretch, Upkeep,
};

/// A run that had everything, `factor` times as slow as the quickest.
fn full(factor: f64, peers: u32) -> Outcome {
    let quantiles = |scale: f64| Quantiles {
        mean: 1.1 * scale,
        p50: scale,
        p95: 1.7 * scale,
        p99: 2.0 * scale,
        max: 2.6 * scale,
    };
    let sent = 10_000;
    Outcome {
        report: Report {
            hops: Some(quantiles(4.0 * factor)),
            latency_ms: Some(quantiles(180.0 * factor)),
            stretch: Some(Stretch {
                p50: 1.9 * factor,
                p95: 4.2 * factor,
            }),
            sent: Some(sent),
            delivered: Some(sent - 3),
            lost: Some(3),
            misdelivered: Some(0),
            broadcast: Some(Broadcast {
                reached: u64::from(peers),
                expected: u64::from(peers),
                transmissions: u64::from(peers) + 40,
                duplicates: 41,
                repaired: 17,
                late: 0,
                offered: 120,
                asked: 18,
                last_ms: 900.0 * factor,
            }),
            upkeep: Some(Upkeep {
                messages_per_s: 0.6,
                bytes_per_s: 71.25 * factor,
            }),
            load: Some(Load {
                max_over_mean: 12.5,
                gini: 0.61,
            }),
            levels: (0_u32..3)
                .map(|level| Level {
                    peers: 16_u64.pow(level + 1),
                    forwarded_mean: 4_000.0 / 9_f64.powi(level as i32),
                    forwarded_max: 5_300 / 5_u64.pow(level),
                })
                .collect(),
            keys: None,
            records: None,
            heal_s: Some(4.25),
            healing: None,
            peak_rss_bytes: Some(300 << 20),
            ..bare(peers).report
        },
        series: Series {
            hops: vec![0, 40, 900, 3_000, 3_600, 1_700, 600, 140, 20],
            latency_ms: (0..=100)
                .map(|share| factor * 3.0 * f64::from(share))
                .collect(),
            reach: (0..=peers)
                .map(|peer| (factor * f64::from(peer), u64::from(peer)))
                .collect(),
            places: places(peers),
        },
        violations: Vec::new(),
    }
}

/// A run of which nothing was asked.
fn bare(peers: u32) -> Outcome {
    Outcome {
        report: Report {
            topology: "polyring".into(),
            peers,
            seed: 7,
            threads: 2,
            digest: "00c0ffee00c0ffee".into(),
            bootstrap_s: None,
            simulated_s: 60.0,
            hops: None,
            latency_ms: None,
            stretch: None,
            sent: None,
            delivered: None,
            lost: None,
            misdelivered: None,
            broadcast: None,
            state: State {
                contacts_mean: 21.4,
                contacts_max: 64,
                known_mean: Some(90.0),
                bytes_mean: None,
            },
            upkeep: None,
            load: None,
            invariants: Invariants {
                checked: 5_000,
                violated: 0,
            },
            levels: Vec::new(),
            keys: None,
            records: None,
            heal_s: None,
            healing: None,
            events: 1_234_567,
            events_per_s: 812_345.6,
            cpu_s: 2.9,
            wall_s: 1.52,
            peak_rss_bytes: None,
        },
        series: Series::default(),
        violations: Vec::new(),
    }
}

/// Rings of sixteen, filled from the center outward.
fn places(peers: u32) -> Vec<Vec<u32>> {
    (0..peers)
        .map(|peer| {
            let (mut rest, mut place) = (peer, Vec::new());
            loop {
                place.insert(0, rest % 16);
                if rest < 16 {
                    return place;
                }
                rest = rest / 16 - 1;
            }
        })
        .collect()
}

fn named(name: &str, run: Outcome) -> (String, Outcome) {
    (name.into(), run)
}

fn count(page: &str, what: &str) -> usize {
    page.matches(what).count()
}

/// What holds for every page.
fn check(page: &str) {
    let bare = page.replace("http://www.w3.org/2000/svg", "");
    for outside in [
        "http://", "https://", "<script", "url(", "@import", "<img", "<link",
    ] {
        assert!(!bare.contains(outside), "{outside}");
    }
    for tag in [
        "svg",
        "g",
        "table",
        "tbody",
        "tr",
        "section",
        "figure",
        "figcaption",
        "ul",
        "dl",
    ] {
        let opened = count(page, &format!("<{tag}>")) + count(page, &format!("<{tag} "));
        assert_eq!(opened, count(page, &format!("</{tag}>")), "{tag}");
    }
    assert_eq!(count(page, "<svg"), count(page, "role=\"img\""));
    assert_eq!(count(page, "<svg"), count(page, "<figcaption>"));
    assert!(!page.contains("NaN") && !page.contains("inf\""));
    // A color of the drawing that was not made a class would not follow light and dark.
    assert!(!page.contains("fill=\"#") && !page.contains("stroke=\"#"));
}

#[test]
fn one_full_run_has_every_section_and_no_key() {
    let page = render("Rings at rest", &[named("balanced", full(1.0, 200))]);
    check(&page);
    for word in [
        "Rings at rest",
        "balanced",
        "Figures",
        "Hops",
        "Reach of a broadcast",
        "[10.3]",
    ] {
        assert!(page.contains(word), "{word}");
    }
    assert!(page.contains("00c0ffee00c0ffee"));
    assert_eq!(count(&page, "<svg"), 5);
    assert!(!page.contains("class=\"swatch"));
    assert!(!page.contains("(better)"));
}

#[test]
fn three_runs_share_each_plot_and_have_a_picture_each() {
    let runs = [
        named("balanced", full(1.0, 32)),
        named("nearest", full(0.7, 200)),
        named("labelled", full(1.4, 2_000)),
    ];
    let page = render("Three policies", &runs);
    check(&page);
    assert_eq!(count(&page, "<svg"), 4 + 3);
    assert!(page.contains("32 to 2,000 peers"));
    assert_eq!(count(&page, "<title>["), 32 + 200 + 2_000);
    assert!(page.contains("run-2") && !page.contains("run-3\""));
}

#[test]
fn the_better_value_is_marked_once_and_a_tie_is_not() {
    let page = render(
        "Two",
        &[named("a", full(1.0, 32)), named("b", full(2.0, 32))],
    );
    assert_eq!(
        count(&page, "best\">4<"),
        1,
        "median hops of the quicker run"
    );
    assert!(
        !page.contains("best\">0.610<"),
        "both have the same Gini coefficient"
    );
}

#[test]
fn what_one_run_lacks_is_a_dash_and_what_all_lack_is_left_out() {
    let page = render(
        "Mixed",
        &[named("full", full(1.0, 32)), named("bare", bare(32))],
    );
    check(&page);
    assert!(page.contains(">–<"));
    let page = render("Bare", &[named("bare", bare(32))]);
    check(&page);
    assert!(!page.contains("<svg") && !page.contains("Curves") && !page.contains("Stretch"));
    assert!(page.contains("Contacts, mean"));
}

#[test]
fn names_and_violations_are_shown_literally() {
    let mut run = full(1.0, 32);
    run.report.topology = "<poly>".into();
    run.violations = vec!["[4] & <[5]> disagree".into()];
    let runs = [named("<b>\"x\"</b>", run), named("y", bare(32))];
    let page = render("a < b", &runs);
    check(&page);
    assert!(page.contains("a &lt; b") && page.contains("&lt;b&gt;&quot;x&quot;&lt;/b&gt;"));
    assert!(page.contains("[4] &amp; &lt;[5]&gt; disagree") && page.contains("&lt;poly&gt;"));
    assert!(!page.contains("<b>\"") && !page.contains("<poly>"));
}

#[test]
fn odd_data_is_drawn_all_the_same() {
    let mut run = full(1.0, 1);
    run.report.cpu_s = f64::NAN;
    run.series.hops = vec![5];
    run.series.latency_ms = vec![0.0; 101];
    run.series.reach = vec![(0.0, 1)];
    run.report.levels = vec![Level::default()];
    // A place of many, one below nobody, and a network's only peer at the very center.
    run.series.places = vec![vec![3]; 40];
    run.series.places.extend([vec![9, 1, 4], Vec::new()]);
    check(&render("Odd", &[named("odd", run)]));
    check(&render("None", &[]));
}

#[test]
fn nine_runs_fit_and_colours_repeat() {
    let runs: Vec<_> = (0..9)
        .map(|run| named(&format!("run {run}"), full(1.0, 32)))
        .collect();
    let page = render("Nine", &runs);
    check(&page);
    assert!(page.contains("run-7\"") && !page.contains("run-8\""));
}

#[test]
fn numbers_have_a_comma_at_every_thousand() {
    assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
    assert_eq!(grouped(999.96, 1), "1,000.0");
    assert_eq!(grouped(-1_234.5, 1), "\u{2212}1,234.5");
    assert_eq!(grouped(-0.01, 1), "0.0");
    assert_eq!(escape("'&'"), "&#39;&amp;&#39;");
}

#[test]
fn in_a_picture_of_rings_no_peer_hides_another() {
    for peers in [1, 2, 17, 32, 200, 2_000] {
        let mut run = full(1.0, peers);
        // Some places of several, and rings of very different sizes.
        run.series.places.extend(places(peers.min(20)));
        run.series.places.truncate(2_000);
        run.series
            .places
            .retain(|place| place.len() < 3 || place[1] < 5 || place[0] % 3 == 0);
        let page = render("Rings", &[named("rings", run.clone())]);
        let dots: Vec<[f64; 3]> = page
            .lines()
            .filter(|line| line.contains("<title>["))
            .map(circle)
            .collect();
        assert_eq!(dots.len(), run.series.places.len());
        for (index, [x, y, radius]) in dots.iter().enumerate() {
            assert!(
                x.abs() + radius <= 500.0 && y.abs() + radius <= 500.0,
                "{peers}: inside"
            );
            for [left, top, other] in &dots[..index] {
                // Each figure is rounded to a tenth.
                let apart = (x - left).hypot(y - top);
                assert!(apart + 0.25 >= radius + other, "{peers}: apart");
            }
        }
    }
}

/// Where a circle is and its radius.
fn circle(line: &str) -> [f64; 3] {
    ["cx=\"", "cy=\"", " r=\""].map(|name| {
        let (_, value) = line.split_once(name).unwrap();
        value.split_once('"').unwrap().0.parse().unwrap()
    })
}
