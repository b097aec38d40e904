//! `sim sweep`: a study, spread over processes. Each run is a process of its own, so that its memory
//! and its processor time are its own, and so that what kills one run does not kill the others.

use std::{
    env,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, absolute},
    process::{Command, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use indicatif::{ProgressBar, ProgressStyle};
use ringweave_api::Word;
use ringweave_sim::{Grid, GridRun, Report};
use serde::Serialize;

use super::{
    check_writable,
    cli::SweepArgs,
    read_text,
    results::{Line, Results},
    title, watch, write_whole,
};
use crate::{exit::Problem, print};

/// What `--json` prints at the end of a sweep.
#[derive(Serialize)]
struct Swept {
    runs: usize,
    skipped: usize,
    ran: usize,
    failed: usize,
    violated: usize,
    missed: usize,
}

/// What `--check --json` prints.
#[derive(Serialize)]
struct Checked {
    checked: usize,
    differ: usize,
}

/// Sweeps, prints the jobs, or checks results.
///
/// # Errors
/// If the study makes no sense, a run failed or violated an invariant, or a digest differs.
pub(super) fn run(args: &SweepArgs, is_json: bool) -> Result<(), Problem> {
    let text = read_text(&args.file)?;
    let folder = args.file.parent().unwrap_or(Path::new(""));
    let Some(out) = &args.out else {
        for run in runs(&text, &args.file, folder)? {
            print::line(format!("{} --json", run.scenario.command()))?;
        }
        return Ok(());
    };
    check_writable(out)?;
    let cannot = |what: &str, error| Problem::new(Word::Failed, format!("cannot {what}: {error}"));
    let out = absolute(out).map_err(|error| cannot("tell where the results are", error))?;
    if folder != Path::new("") {
        // Commands of a study name its files from its folder, so that results travel with it.
        env::set_current_dir(folder).map_err(|error| cannot("enter the study's folder", error))?;
    }
    let runs = runs(&text, &args.file, Path::new(""))?;
    let jobs = args.jobs.map_or_else(|| usual_jobs(&runs), usize::from);
    let results = Results::read(&out, &runs)?;
    if args.check {
        check(&runs, &results, jobs, is_json)
    } else {
        sweep(&runs, &results, &out, jobs, is_json)
    }
}

/// The runs of a study, checked, on one thread each unless it says otherwise.
fn runs(text: &str, file: &Path, folder: &Path) -> Result<Vec<GridRun>, Problem> {
    let grid = Grid::from_toml(text, file, folder).map_err(Problem::usage)?;
    let mut runs = grid.runs().map_err(Problem::usage)?;
    for run in &mut runs {
        run.scenario.threads.get_or_insert(1);
        let fits = run.scenario.check();
        fits.map_err(|error| {
            let what = [file.display().to_string(), title(run), error.to_string()];
            let said = what.iter().filter(|text| !text.is_empty());
            Problem::usage(said.cloned().collect::<Vec<_>>().join(": "))
        })?;
    }
    Ok(runs)
}

/// As many processes as keep all cores busy.
fn usual_jobs(runs: &[GridRun]) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = runs.iter().filter_map(|run| run.scenario.threads).max();
    (cores / threads.map_or(1, usize::from)).max(1)
}

fn sweep(
    runs: &[GridRun],
    results: &Results,
    out: &Path,
    jobs: usize,
    is_json: bool,
) -> Result<(), Problem> {
    if results.is_torn {
        write_whole(out, &results.kept)?;
    }
    let cannot = |error| {
        let message = format!("cannot write {}: {error}", out.display());
        Problem::new(Word::Failed, message)
    };
    let opened = OpenOptions::new().create(true).append(true).open(out);
    let mut file = opened.map_err(cannot)?;
    let missing = results.missing(runs);
    let mut failed = 0;
    let (mut violated, mut missed) = (0, 0);
    let mut judge = |run: &GridRun, report: &Report| {
        violated += usize::from(report.invariants.violated > 0);
        missed += usize::from(!run.scenario.missed(report).is_empty());
    };
    for run in runs {
        let done = results.done.get(&run.scenario.command());
        done.iter().for_each(|report| judge(run, report));
    }
    let bar = progress(is_json, runs.len(), results.done.len());
    let done = spread(
        &missing,
        jobs,
        |run| process(run),
        |at, outcome| {
            failed += usize::from(outcome.is_err());
            outcome.iter().for_each(|report| judge(missing[at], report));
            let line = Line::new(missing[at], outcome).text();
            file.write_all(line.as_bytes()).map_err(cannot)?;
            bar.inc(1);
            Ok(())
        },
    );
    bar.finish_and_clear();
    done?;
    let swept = Swept {
        runs: runs.len(),
        skipped: runs.len() - missing.len(),
        ran: missing.len(),
        failed,
        violated,
        missed,
    };
    let bad = format!("{violated} violate invariants, {missed} miss what was expected");
    if is_json {
        print::json(&swept)?;
    } else {
        print::line(format!(
            "{} runs: {} had a line already, {} ran now, {failed} of them failed; {bad}",
            swept.runs, swept.skipped, swept.ran
        ))?;
    }
    if failed + violated + missed == 0 {
        return Ok(());
    }
    let (all, out) = (swept.runs, out.display());
    let message = format!("{failed} of {all} runs failed, {bad}; see {out}");
    Err(Problem::new(Word::Failed, message).told())
}

fn check(runs: &[GridRun], results: &Results, jobs: usize, is_json: bool) -> Result<(), Problem> {
    let known = |run: &GridRun| results.done.get(&run.scenario.command());
    let done: Vec<_> = runs
        .iter()
        .filter_map(|run| known(run).map(|report| (run, report)))
        .collect();
    if done.is_empty() {
        return Err(Problem::usage("there is no result of this study to check"));
    }
    let mut differences = Vec::new();
    let bar = progress(is_json, done.len(), 0);
    let all = spread(
        &done,
        jobs,
        |(run, _)| process(run),
        |at, outcome| {
            let (run, report) = done[at];
            let now = outcome.map_or_else(|error| error, |report| report.digest);
            if now != report.digest {
                let command = run.scenario.command();
                differences.push(format!("differs: {}, now {now}: {command}", report.digest));
            }
            bar.inc(1);
            Ok(())
        },
    );
    bar.finish_and_clear();
    all?;
    let checked = Checked {
        checked: done.len(),
        differ: differences.len(),
    };
    differences.iter().for_each(|text| eprintln!("{text}"));
    if is_json {
        print::json(&checked)?;
    } else {
        let Checked { checked, differ } = checked;
        print::line(format!("{checked} runs checked, {differ} differ"))?;
    }
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!("{} of {} runs differ", differences.len(), done.len());
    Err(Problem::new(Word::Failed, message).told())
}

/// Works on items in their order, so many at once, and takes what comes of each as it comes.
///
/// # Errors
/// What `take` says; nothing new is begun then.
fn spread<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(usize, R) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let next = AtomicUsize::new(0);
    let (done, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            let (done, next, work) = (done.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    // Nobody listens any more once a result could not be taken.
                    if done.send((at, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for (at, result) in results {
            take(at, result)?;
        }
        Ok(())
    })
}

/// Does a run in a process of its own.
fn process(run: &GridRun) -> Result<Report, String> {
    let program = env::current_exe().map_err(|error| format!("cannot start a run: {error}"))?;
    let output = Command::new(program)
        .args(["sim", "run", "--json"])
        .args(run.scenario.words())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start a run: {error}"))?;
    // A run that violates invariants exits 1, after its report.
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        reason(&said).unwrap_or_else(|| output.status.to_string())
    })
}

/// Why a process failed, from what it said: its error, or where and why it panicked.
fn reason(said: &str) -> Option<String> {
    if let Some(error) = said.lines().find_map(|line| line.strip_prefix("error: ")) {
        return Some(error.to_owned());
    }
    let mut lines = said
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    let place = lines.next()?;
    Some([place, lines.next().unwrap_or_default()].join(" "))
}

fn progress(is_json: bool, len: usize, done: usize) -> ProgressBar {
    let bar = watch::bar(is_json, len as u64);
    let style = ProgressStyle::with_template("{pos} of {len} {wide_bar} {eta}");
    bar.set_style(style.expect("the template is well-formed"));
    bar.set_position(done as u64);
    bar.reset_eta();
    bar.tick();
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_whatever_the_number_of_jobs() {
        let items: Vec<u64> = (0..50).collect();
        for jobs in [1, 3, 100] {
            let mut taken = Vec::new();
            let all = spread(
                &items,
                jobs,
                |item| item * 2,
                |at, result| {
                    assert_eq!(result, at as u64 * 2);
                    taken.push(at);
                    Ok(())
                },
            );
            assert!(all.is_ok());
            taken.sort_unstable();
            assert_eq!(taken, (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_result_that_cannot_be_taken_ends_the_work_with_its_problem() {
        let items = [(); 1_000];
        let full = || Problem::usage("full");
        let all = spread(&items, 3, |()| (), |_, ()| Err(full()));
        assert_eq!(all, Err(full()));
    }

    #[test]
    fn a_failure_is_told_in_one_line() {
        let panicked = "\nthread 'main' panicked at lib.rs:5:\nunlucky\nnote: run with\n";
        let told = "thread 'main' panicked at lib.rs:5: unlucky";
        assert_eq!(reason(panicked).as_deref(), Some(told));
        let error = reason("warning: slow\nerror: seed: none\n");
        assert_eq!(error.as_deref(), Some("seed: none"));
        assert_eq!(reason(""), None);
    }

    #[test]
    fn runs_take_one_thread_unless_the_study_says_otherwise() {
        let file = Path::new("study.toml");
        let threads = |text: &str| {
            let runs = runs(text, file, Path::new("")).unwrap();
            runs[0].scenario.threads
        };
        assert_eq!(threads("[grid]\nseed = [1]"), Some(1));
        assert_eq!(threads("[base]\nthreads = 4"), Some(4));
    }

    #[test]
    fn a_crossing_that_makes_no_sense_is_named_before_anything_runs() {
        let text = "[base]\npeers = 20000\n[grid]\nreal_keys = [false, true]";
        let problem = runs(text, Path::new("study.toml"), Path::new("")).unwrap_err();
        let said = problem.to_string();
        assert!(
            said.starts_with("error: study.toml: real-keys=true: real_keys: 20000 peers"),
            "{said}"
        );
    }
}
