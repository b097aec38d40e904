//! The commands about records.

use std::io::{self, Read as _};

use ringweave_api::{
    Word,
    body::{DeleteBody, Payload, PutBody, StoredAnswer, WatchEvent},
};
use ringweave_node::MAX_VALUE;

use crate::{
    ask::Ask,
    cli::{KvCommand, PutArgs},
    draw,
    exit::Problem,
    print,
};

impl Ask<'_> {
    pub(crate) async fn kv(self, command: KvCommand) -> Result<(), Problem> {
        match command {
            KvCommand::Put(args) => self.put(args).await,
            KvCommand::Get(args) => self.read(&args.key).await,
            KvCommand::Watch(args) => tokio::select! {
                ended = self.watch(&args.key) => ended,
                _ = tokio::signal::ctrl_c() => Ok(()),
            },
            KvCommand::Del(args) => {
                let body = DeleteBody { name: args.name };
                let answer = self.client()?.delete(&body).await?;
                self.stored(&answer, "deleted")
            }
            KvCommand::List => self.records().await,
        }
    }

    async fn put(self, args: PutArgs) -> Result<(), Problem> {
        let text = args.value.or(args.immutable).unwrap_or_default();
        let value = match text.as_str() {
            "-" => read_in()?,
            _ => text.into_bytes(),
        };
        if value.len() > MAX_VALUE {
            let len = value.len();
            let message = format!(
                "the value has {len} bytes, over the limit of {MAX_VALUE}; keep it in parts"
            );
            return Err(Problem::new(Word::TooLarge, message));
        }
        let body = PutBody {
            name: args.name,
            lease_s: Some(args.lease),
            payload: Payload::bytes(&value),
        };
        let answer = self.client()?.put(&body).await?;
        self.stored(&answer, "kept")
    }

    fn stored(self, answer: &StoredAnswer, what: &str) -> Result<(), Problem> {
        if self.is_json {
            return print::json(answer);
        }
        let StoredAnswer {
            key, copies, ms, ..
        } = answer;
        print::line(format!("{key}  {what} by {copies} peers, {ms:.2} ms"))
    }

    /// Prints the value as it is, and nothing else.
    async fn read(self, key: &str) -> Result<(), Problem> {
        let answer = self.client()?.get_record(key).await?;
        if self.is_json {
            return print::json(&answer);
        }
        let value = answer.payload.into_bytes();
        let odd = || Problem::new(Word::Failed, "the peer sent a value that is no base64");
        print::bytes(&value.ok_or_else(odd)?)
    }

    async fn watch(self, key: &str) -> Result<(), Problem> {
        let mut lines = self.client()?.watch(key).await?;
        while let Some(line) = lines.next().await? {
            let odd =
                |error| Problem::new(Word::Failed, format!("the peer sent an odd line: {error}"));
            let event: WatchEvent = serde_json::from_str(&line).map_err(odd)?;
            if self.is_json {
                print::line(line)?;
            }
            match event {
                WatchEvent::Failed(fault) => {
                    let problem = Problem::from(fault);
                    return Err(if self.is_json {
                        problem.told()
                    } else {
                        problem
                    });
                }
                _ if self.is_json => {}
                WatchEvent::Record(record) => print::line(record.payload.payload)?,
                WatchEvent::Nothing { .. } => eprintln!("(nothing is kept there)"),
            }
        }
        Err(Problem::new(
            Word::Stopped,
            "the stream has ended: the peer stopped",
        ))
    }

    async fn records(self) -> Result<(), Problem> {
        let answer = self.client()?.records().await?;
        if self.is_json {
            return print::json(&answer);
        }
        let rows: Vec<Vec<String>> = answer
            .records
            .into_iter()
            .map(|record| {
                vec![
                    record.name.unwrap_or_else(|| "-".into()),
                    record.key,
                    record.bytes.to_string(),
                    format!("{} s", record.lease_s),
                    if record.kept { "kept" } else { "not kept yet" }.into(),
                ]
            })
            .collect();
        print::line(draw::table(&["NAME", "KEY", "BYTES", "LEASE", "STATE"], &rows).trim_end())
    }
}

/// What comes in on standard input, one byte more than is allowed at most.
fn read_in() -> Result<Vec<u8>, Problem> {
    let mut value = Vec::new();
    let read = io::stdin()
        .take(MAX_VALUE as u64 + 1)
        .read_to_end(&mut value);
    let failed = |error| {
        Problem::new(
            Word::Failed,
            format!("standard input cannot be read: {error}"),
        )
    };
    read.map_err(failed)?;
    Ok(value)
}
