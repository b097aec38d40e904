//! A small internet of network namespaces: a router in the middle, hosts with public addresses, and
//! hosts behind routers that translate addresses.
//!
//! ```text
//!                    ┌── 198.18.1.2  public host
//! internet (router) ─┼── 198.18.2.2  public host
//!                    └── 198.18.3.2  NAT ── 10.0.0.1 | 10.0.0.2  private host
//! ```
//!
//! All of it has names of this process, and goes when the world is dropped, in a panic too. No packet
//! leaves it: it has no way to the machine's own network.

use std::{
    fs, io,
    process::{self, Command},
    sync::atomic::{AtomicUsize, Ordering},
};

/// What every namespace's name starts with; the process's number follows.
const PREFIX: &str = "rwnat";
/// Worlds made by this process.
static WORLDS: AtomicUsize = AtomicUsize::new(0);

/// How a router translates addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nat {
    /// The port inside is the port outside, if it is free.
    KeepsPorts,
    /// Every conversation gets a port that nobody can guess.
    RandomPorts,
}

/// A world. Dropping it takes it apart.
pub(crate) struct World {
    name: String,
    /// All namespaces that were made.
    made: Vec<String>,
    hosts: u8,
}

impl World {
    /// An empty world, or why there can be none here.
    pub(crate) fn new() -> Result<Self, String> {
        for tool in ["ip", "nft"] {
            if let Err(error) = Command::new(tool).arg("-V").output() {
                return Err(format!("no program {tool}: {error}"));
            }
        }
        bury();
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let mut world = Self {
            name: format!("{PREFIX}{}w{number}", process::id()),
            made: Vec::new(),
            hosts: 0,
        };
        let space = world.space("net")?;
        world.route(&space)?;
        run(
            "ip",
            &["netns", "exec", &space, "nft", "add table inet gate"],
        )?;
        let chain = "add chain inet gate between { type filter hook forward priority 0; }";
        run("ip", &["netns", "exec", &space, "nft", chain])?;
        Ok(world)
    }

    /// A host that anybody reaches; its namespace and its address.
    pub(crate) fn public(&mut self) -> (String, String) {
        let (space, address) = self.connect("pub").unwrap();
        (space, address)
    }

    /// A host behind a router of its own; its namespace and the router's address outside.
    pub(crate) fn private(&mut self, nat: Nat) -> (String, String) {
        let (router, outside) = self.connect("nat").unwrap();
        let number = self.hosts;
        let host = self.space(&format!("host{number}")).unwrap();
        self.route(&router).unwrap();
        // All houses have the same addresses inside.
        wire(
            (&router, "in", "10.0.0.1/24"),
            (&host, "eth", "10.0.0.2/24"),
        )
        .unwrap();
        within(&host, "ip", "route add default via 10.0.0.1");
        let masquerade = match nat {
            Nat::KeepsPorts => "masquerade",
            Nat::RandomPorts => "masquerade random,fully-random",
        };
        within(&router, "nft", "add table ip nat");
        let chain = "add chain ip nat out { type nat hook postrouting priority 100; }";
        within(&router, "nft", chain);
        let rule = format!("add rule ip nat out oifname eth {masquerade}");
        within(&router, "nft", &rule);
        // As the routers of houses do, and so that a stranger's packet leaves no trace that would
        // make the answer to it change its port.
        within(&router, "nft", "add table inet wall");
        for hook in ["input", "forward"] {
            let chain =
                format!("add chain inet wall {hook} {{ type filter hook {hook} priority 0; }}");
            within(&router, "nft", &chain);
            let rule = format!(
                "add rule inet wall {hook} iifname eth ct state != {{ established, related }} drop"
            );
            within(&router, "nft", &rule);
        }
        (host, outside)
    }

    /// No UDP goes from one address to another any more, nor back.
    pub(crate) fn block_udp(&self, one: &str, other: &str) {
        let space = format!("{}net", self.name);
        for (from, to) in [(one, other), (other, one)] {
            let rule = format!(
                "add rule inet gate between ip saddr {from} ip daddr {to} meta l4proto udp drop"
            );
            within(&space, "nft", &rule);
        }
    }

    /// A host at the router in the middle; its namespace and its address.
    fn connect(&mut self, kind: &str) -> Result<(String, String), String> {
        self.hosts += 1;
        let number = self.hosts;
        let space = self.space(&format!("{kind}{number}"))?;
        let middle = format!("{}net", self.name);
        let (near, far) = (format!("198.18.{number}.1"), format!("198.18.{number}.2"));
        wire(
            (&middle, &format!("to{number}"), &format!("{near}/24")),
            (&space, "eth", &format!("{far}/24")),
        )?;
        within(&space, "ip", &format!("route add default via {near}"));
        Ok((space, far))
    }

    fn space(&mut self, name: &str) -> Result<String, String> {
        let name = format!("{}{name}", self.name);
        run("ip", &["netns", "add", &name])?;
        self.made.push(name.clone());
        run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }

    fn route(&self, space: &str) -> Result<(), String> {
        let switch = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        run("ip", &["netns", "exec", space, "sh", "-c", switch])
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for space in &self.made {
            remove(space);
        }
    }
}

/// Takes apart what a test that was killed left behind.
fn bury() {
    let Ok(spaces) = fs::read_dir("/run/netns") else {
        return;
    };
    for space in spaces.flatten() {
        let name = space.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| {
            let (process, _) = rest.split_once('w')?;
            process.parse::<u32>().ok()
        });
        if owner.is_some_and(|owner| !fs::exists(format!("/proc/{owner}")).unwrap_or(true)) {
            remove(&name);
        }
    }
}

fn remove(space: &str) {
    if let Err(error) = run("ip", &["netns", "del", space]) {
        eprintln!("{space} stays behind: {error}");
    }
}

/// A wire between two namespaces: at each end an interface with an address.
fn wire(one: (&str, &str, &str), other: (&str, &str, &str)) -> Result<(), String> {
    let words = [
        "link", "add", one.1, "netns", one.0, "type", "veth", "peer", "name", other.1, "netns",
        other.0,
    ];
    run("ip", &words)?;
    for (space, interface, address) in [one, other] {
        run(
            "ip",
            &["-n", space, "addr", "add", address, "dev", interface],
        )?;
        run("ip", &["-n", space, "link", "set", interface, "up"])?;
    }
    Ok(())
}

/// Runs a tool in a namespace that stands.
fn within(space: &str, tool: &str, line: &str) {
    let words: Vec<&str> = match tool {
        // One argument: its language has spaces of its own.
        "nft" => vec![line],
        _ => line.split(' ').collect(),
    };
    let mut all = vec!["netns", "exec", space, tool];
    all.extend(words);
    run("ip", &all).unwrap();
}

fn run(tool: &str, words: &[&str]) -> Result<(), String> {
    let told = Command::new(tool).args(words).output();
    let told = told.map_err(|error: io::Error| format!("{tool}: {error}"))?;
    if told.status.success() {
        Ok(())
    } else {
        let why = String::from_utf8_lossy(&told.stderr);
        Err(format!("{tool} {}: {}", words.join(" "), why.trim()))
    }
}
