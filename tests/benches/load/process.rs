//! What the operating system says of a process: CPU time, memory, children. And what this machine's disk takes to sync.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Clock ticks a second of `/proc/PID/stat` (Linux tells every program 100, `USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;

/// A process that is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looked(pub(crate) u32);

impl Looked {
    /// This process.
    pub(crate) fn own() -> Self {
        Self(std::process::id())
    }

    /// Its first child.
    pub(crate) fn child(self) -> Self {
        let is_child = |id: &u32| parent(*id) == Some(self.0);
        let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        Self(ids.into_iter().find(is_child).expect("the server has an engine"))
    }

    /// Seconds of CPU it used so far, its ended threads included.
    pub(crate) fn cpu(self) -> f64 {
        let fields = stat(self.0).expect("the process runs");
        // utime and stime, fields 14 and 15 (man 5 proc); the first two were cut off.
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        ticks as f64 / TICKS_A_SECOND
    }

    /// Memory it holds now, bytes.
    pub(crate) fn resident(self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most memory it has held since [`Self::forget_peak`], bytes.
    pub(crate) fn peak(self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Begins to look for its peak anew.
    pub(crate) fn forget_peak(self) {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").expect("the process runs");
    }

    fn memory(self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).expect("the process runs");
        let value = status.lines().find_map(|found| found.strip_prefix(line)).expect("it has memory");
        value.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    }

    /// Seconds of CPU of its threads, by their name, most first.
    pub(crate) fn cpu_by_thread(self) -> Vec<(String, f64)> {
        let mut threads: Vec<(String, f64)> = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.0)).unwrap().flatten() {
            // A thread may end while it is looked at.
            let Ok(text) = fs::read_to_string(task.path().join("stat")) else { continue };
            let (head, fields) = text.rsplit_once(')').unwrap();
            let name = head.split_once('(').unwrap().1;
            let ticks: u64 =
                fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
            let seconds = ticks as f64 / TICKS_A_SECOND;
            match threads.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += seconds,
                None => threads.push((name.to_owned(), seconds)),
            }
        }
        threads.sort_by(|(_, left), (_, right)| right.total_cmp(left));
        threads
    }
}

/// What follows a process's name in `/proc/PID/stat`; the name may hold anything.
fn stat(id: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.to_owned())
}

fn parent(id: u32) -> Option<u32> {
    stat(id)?.split_whitespace().nth(1)?.parse().ok()
}

/// Times of 200 syncs of 128 KiB each in a file of reserved length, as the log writes: what the disk itself takes.
pub(crate) fn syncs(folder: &Path) -> Vec<Duration> {
    const BYTES: usize = 128 << 10;
    let path = folder.join("sync-probe");
    let file = File::options().create_new(true).write(true).open(&path).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 200 * BYTES as u64).unwrap();
    file.sync_all().unwrap();
    let bytes = vec![7; BYTES];
    let times = (0..200_u64).map(|number| {
        let started = Instant::now();
        file.write_all_at(&bytes, number * BYTES as u64).unwrap();
        file.sync_data().unwrap();
        started.elapsed()
    });
    let times = times.collect();
    fs::remove_file(path).unwrap();
    times
}

/// The least of `times` that `share` of them do not exceed, milliseconds.
pub(crate) fn quantile_ms(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let position = (times.len() as f64 * share).ceil().max(1.0) as usize - 1;
    times.get(position).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
