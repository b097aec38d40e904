use ringweave_sim::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut s = Scenario { peers: a[1].parse().unwrap(), threads: Some(a[2].parse().unwrap()), lookups: a[3].parse().unwrap(), broadcasts: 1, ..Scenario::default() };
    for k in &a[4..] { match k.split_once('=').unwrap() {
        ("boot", "built") => s.bootstrap = Bootstrap::Built,
        ("ring", n) => s.ring_size = Some(n.parse().unwrap()),
        ("lat", n) => s.latency = n.parse::<f64>().map(Latency::Constant).unwrap(),
        ("dur", n) => s.duration = n.parse().unwrap(),
        ("seed", n) => s.seed = n.parse().unwrap(),
        ("crash", n) => s.crash = Some(Share { share: n.parse().unwrap(), at: 10.0 }),
        _ => panic!("{k}") } }
    let o = run(&s, &mut |p| eprint!("\r{:.1}s {} peers {}M ev   ", p.simulated_s, p.peers, p.events/1_000_000)).unwrap();
    println!("{}", serde_json::to_string_pretty(&o.report).unwrap());
    for v in o.violations.iter().take(10) { println!("{v}"); }
}
