//! A scenario as the command that replays it, and as a file.

use std::fmt::Write as _;

use super::{Form, SETTINGS, Scenario, Setting, fault::TEXTS};

/// Settings that are always said: a run is known by them.
const ALWAYS: &[&str] = &["topology", "peers", "seed"];

impl Scenario {
    /// The words after `ringweave sim run` that make this scenario.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (setting, text) in self.said() {
            let flag = format!("--{}", setting.name.replace('_', "-"));
            if setting.form == Form::Flag {
                words.push(format!("{flag}={text}"));
            } else {
                words.extend([flag, text]);
            }
        }
        for fault in &self.faults {
            words.extend(["--fault".to_owned(), fault.to_string()]);
        }
        for expectation in &self.expect {
            words.extend(["--expect".to_owned(), expectation.to_string()]);
        }
        words
    }

    /// The one command that replays it, as typed into a shell.
    pub fn command(&self) -> String {
        let words = self.words();
        let quoted = words.iter().map(|word| quoted(word));
        ["ringweave", "sim", "run"]
            .into_iter()
            .map(str::to_owned)
            .chain(quoted)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The file that says it. Relative paths in it are as they are here: relative to the folder that
    /// the file is to lie in.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (setting, value) in self.said() {
            line(&mut text, setting.name, &value, setting.form);
        }
        for fault in &self.faults {
            text.push_str("\n[[fault]]\n");
            for (key, value) in fault.parts() {
                let is_text = TEXTS.contains(&key.as_str());
                let form = if is_text { Form::Text } else { Form::Number };
                line(&mut text, &key, &value, form);
            }
        }
        if !self.expect.is_empty() {
            text.push_str("\n[expect]\n");
        }
        for expectation in &self.expect {
            let bound = expectation.bound().to_string();
            line(&mut text, expectation.name(), &bound, Form::Number);
        }
        text
    }

    /// The settings that differ from their defaults, and those that are always said, with their texts.
    fn said(&self) -> impl Iterator<Item = (&'static Setting, String)> {
        let usual = Self::default();
        SETTINGS.iter().filter_map(move |setting| {
            let text = setting.get(self);
            let is_said = ALWAYS.contains(&setting.name) || text != setting.get(&usual);
            // What is set by default is never optional, so nothing is lost where there is no text.
            text.filter(|_| is_said).map(|text| (setting, text))
        })
    }
}

fn line(text: &mut String, key: &str, value: &str, form: Form) {
    let value = match form {
        Form::Text => toml::Value::String(value.to_owned()).to_string(),
        Form::Number | Form::Flag => value.to_owned(),
    };
    writeln!(text, "{key} = {value}").expect("a string takes all that is written");
}

/// The word as a POSIX shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        Canary, Churn, Latency, Policy, Rule, Share, Split,
        scenario::{fault::tests::faults, setting},
    };

    fn scenarios() -> impl Strategy<Value = Scenario> {
        let shape = (
            1..=10_000u32,
            any::<u64>(),
            prop::option::of(1..=256u16),
            prop::option::of(2..=1_024u16),
            any::<bool>(),
        );
        let links = (
            0.0..1.0f64,
            0.0..=1.0f64,
            0.0..100.0f64,
            prop::option::of(1..u64::MAX),
            prop_oneof![
                Just(Latency::Geo),
                (0.0..9.0f64).prop_map(Latency::Constant)
            ],
        );
        let events = (
            prop::option::of((0.0..=1.0f64, 0.0..1e3f64)),
            prop::option::of((0.0..=1.0f64, 0.0..1e3f64, 0.0..1e3f64)),
            prop::option::of(Just(Canary::ForgedRoster)),
            prop::option::of(Just(Rule::Takeover)),
            prop::option::of(0.0..1e9f64),
            prop::collection::vec(faults(), 0..3),
        );
        (shape, links, events).prop_map(|(shape, links, events)| Scenario {
            peers: shape.0,
            seed: shape.1,
            threads: shape.2,
            ring_size: shape.3,
            real_keys: shape.4,
            loss: links.0,
            jitter: links.1,
            duration: links.2,
            upload: links.3,
            latency: links.4,
            crash: events.0.map(|(share, at)| Share { share, at }),
            partition: events
                .1
                .map(|(share, at, length)| Split { share, at, length }),
            canary: events.2,
            without: events.3,
            expect: Vec::from_iter(events.4.map(|bound| {
                let text = format!("heal_s={bound}");
                text.parse().expect("any time may be expected")
            })),
            faults: events.5,
            policy: Policy::Nearest,
            churn: Churn::Exponential { mean_s: 7.5 },
            ..Scenario::default()
        })
    }

    /// What the program makes of the words of a command.
    fn replayed(words: &[String]) -> Scenario {
        let mut scenario = Scenario::default();
        let mut words = words.iter();
        while let Some(flag) = words.next() {
            let (flag, text) = match flag.split_once('=') {
                Some((flag, text)) => (flag, text.to_owned()),
                None => (flag.as_str(), words.next().unwrap().clone()),
            };
            if flag == "--expect" {
                scenario.expect.push(text.parse().unwrap());
                continue;
            }
            if flag == "--fault" {
                scenario.faults.push(text.parse().unwrap());
                continue;
            }
            let name = flag.trim_start_matches("--").replace('-', "_");
            setting(&name)
                .unwrap()
                .set(&mut scenario, &text, Path::new(""))
                .unwrap();
        }
        scenario
    }

    proptest! {
        #[test]
        fn a_scenario_survives_its_command_and_its_file(scenario in scenarios()) {
            prop_assert_eq!(&replayed(&scenario.words()), &scenario);
            let read = Scenario::from_toml(&scenario.to_toml(), Path::new("world.toml"));
            prop_assert_eq!(read.unwrap(), scenario);
        }
    }

    #[test]
    fn a_command_says_what_differs_and_what_a_run_is_known_by() {
        assert_eq!(
            Scenario::default().command(),
            "ringweave sim run --topology polyring --peers 1000 --seed 1"
        );
        let scenario = Scenario {
            lookups: 5,
            one_way: 0.1,
            real_keys: true,
            faults: vec!["crash@1:ring=[4.2]".parse().unwrap()],
            latency: Latency::File("my data/rtt's.gz".into()),
            ..Scenario::default()
        };
        assert_eq!(
            scenario.command(),
            "ringweave sim run --topology polyring --peers 1000 --seed 1 \
             --latency 'my data/rtt'\\''s.gz' --lookups 5 --one-way 0.1 --real-keys=true \
             --fault 'crash@1:ring=[4.2]'"
        );
    }
}
