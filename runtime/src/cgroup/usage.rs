//! What a group has used, from its files (MET-3..5). Reading and understanding are apart: the texts of any kernel can be given in a test.
//!
//! v1 spreads the controllers over hierarchies, but no two have a file of the same name; v2 has them all in one directory. A hybrid host has the
//! controllers in v1 and a v2 directory without any, so v1 is asked first.

use std::fs;

use bosun_types::Error;
use bosun_types::metrics::{BlkioUsage, CgroupUsage, CpuUsage, HugetlbUsage, MemoryUsage, PidsUsage};

use super::{Group, Kind};
use crate::error::Result;

/// Sizes of huge pages as the kernel names them in file names.
const HUGE_PAGES: [(&str, u64); 9] = [
    ("64KB", 64 << 10),
    ("1MB", 1 << 20),
    ("2MB", 2 << 20),
    ("16MB", 16 << 20),
    ("32MB", 32 << 20),
    ("256MB", 256 << 20),
    ("512MB", 512 << 20),
    ("1GB", 1 << 30),
    ("16GB", 16 << 30),
];
/// v1 says "no limit" with the largest multiple of a page; anything near it means the same.
const V1_NO_LIMIT: u64 = 1 << 62;

/// Gives the text of a group's file, if it has one of that name.
type Files<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Group {
    /// What it has used. NotFound when it is in no hierarchy. Blocking.
    pub fn usage(&self) -> Result<CgroupUsage> {
        if !self.exists() {
            return Err(Error::not_found(format!("cgroup {} does not exist", self.name)).into());
        }
        let v1 = |name: &str| self.read(name, |kind| kind != Kind::V2);
        if v1("pids.current").or_else(|| v1("memory.usage_in_bytes")).is_some() {
            return Ok(of_v1(&v1));
        }
        Ok(of_v2(&|name| self.read(name, |kind| kind == Kind::V2)))
    }

    fn read(&self, name: &str, wanted: impl Fn(Kind) -> bool) -> Option<String> {
        let mut directories = self.directories.iter().filter(|it| wanted(it.kind));
        directories.find_map(|it| fs::read_to_string(it.path.join(name)).ok())
    }
}

fn of_v1(files: Files<'_>) -> CgroupUsage {
    let cpu = files("cpu.stat").unwrap_or_default();
    let limit = |name| Some(number(files, name)).filter(|value| *value < V1_NO_LIMIT).unwrap_or(0);
    let usage = number(files, "memory.usage_in_bytes");
    let memory_limit = limit("memory.limit_in_bytes");
    CgroupUsage {
        cgroup_version: 1,
        cpu: CpuUsage {
            total: number(files, "cpuacct.usage"),
            user: number(files, "cpuacct.usage_user"),
            kernel: number(files, "cpuacct.usage_sys"),
            per_cpu: words(files, "cpuacct.usage_percpu"),
            periods: field(&cpu, "nr_periods"),
            throttled_periods: field(&cpu, "nr_throttled"),
            throttled: field(&cpu, "throttled_time"),
        },
        memory: MemoryUsage {
            usage,
            limit: memory_limit,
            max: number(files, "memory.max_usage_in_bytes"),
            limit_hits: number(files, "memory.failcnt"),
            // "memsw" is memory and swap together.
            swap_usage: number(files, "memory.memsw.usage_in_bytes").saturating_sub(usage),
            swap_limit: limit("memory.memsw.limit_in_bytes").saturating_sub(memory_limit),
            kernel_usage: number(files, "memory.kmem.usage_in_bytes"),
            oom_kills: field(&files("memory.oom_control").unwrap_or_default(), "oom_kill"),
            stat: fields(&files("memory.stat").unwrap_or_default()),
        },
        pids: pids(files),
        blkio: blkio_v1(files),
        hugetlb: hugetlb(|size| {
            let file = |what: &str| number(files, &format!("hugetlb.{size}.{what}"));
            files(&format!("hugetlb.{size}.usage_in_bytes"))?;
            Some((file("usage_in_bytes"), file("max_usage_in_bytes"), file("failcnt")))
        }),
    }
}

fn of_v2(files: Files<'_>) -> CgroupUsage {
    let cpu = files("cpu.stat").unwrap_or_default();
    let nanos = |name| field(&cpu, name).saturating_mul(1000);
    let events = files("memory.events").unwrap_or_default();
    let stat = fields(&files("memory.stat").unwrap_or_default());
    let kernel = stat.iter().find(|(key, _)| key == "kernel").map_or(0, |(_, value)| *value);
    CgroupUsage {
        cgroup_version: 2,
        cpu: CpuUsage {
            total: nanos("usage_usec"),
            user: nanos("user_usec"),
            kernel: nanos("system_usec"),
            per_cpu: Vec::new(),
            periods: field(&cpu, "nr_periods"),
            throttled_periods: field(&cpu, "nr_throttled"),
            throttled: nanos("throttled_usec"),
        },
        memory: MemoryUsage {
            usage: number(files, "memory.current"),
            limit: number(files, "memory.max"),
            max: number(files, "memory.peak"),
            limit_hits: field(&events, "max"),
            swap_usage: number(files, "memory.swap.current"),
            swap_limit: number(files, "memory.swap.max"),
            kernel_usage: kernel,
            oom_kills: field(&events, "oom_kill"),
            stat,
        },
        pids: pids(files),
        blkio: blkio_v2(&files("io.stat").unwrap_or_default()),
        hugetlb: hugetlb(|size| {
            let events = files(&format!("hugetlb.{size}.events")).unwrap_or_default();
            let usage = files(&format!("hugetlb.{size}.current"))?.trim().parse().ok()?;
            Some((usage, 0, field(&events, "max")))
        }),
    }
}

fn pids(files: Files<'_>) -> PidsUsage {
    PidsUsage { current: number(files, "pids.current"), limit: number(files, "pids.max") }
}

/// Sizes that were never used are left out.
fn hugetlb(read: impl Fn(&str) -> Option<(u64, u64, u64)>) -> Vec<HugetlbUsage> {
    let sizes = HUGE_PAGES.iter().filter_map(|(name, page_bytes)| {
        let (usage, max, limit_hits) = read(name)?;
        Some(HugetlbUsage { page_bytes: *page_bytes, usage, max, limit_hits })
    });
    sizes.filter(|it| it.usage + it.max + it.limit_hits > 0).collect()
}

/// `8:0 Read 4096`, and a last line `Total 4096`.
fn blkio_v1(files: Files<'_>) -> Vec<BlkioUsage> {
    let mut devices: Vec<BlkioUsage> = Vec::new();
    for (file, of_bytes) in [("blkio.throttle.io_service_bytes", true), ("blkio.throttle.io_serviced", false)]
    {
        let text = files(&format!("{file}_recursive")).or_else(|| files(file)).unwrap_or_default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some((major, minor)), Some(operation), Some(value)) =
                (words.next().and_then(device), words.next(), words.next().and_then(|it| it.parse().ok()))
            else {
                continue;
            };
            let place = match devices.iter().position(|it| (it.major, it.minor) == (major, minor)) {
                Some(place) => place,
                None => {
                    devices.push(BlkioUsage { major, minor, ..BlkioUsage::default() });
                    devices.len() - 1
                }
            };
            let device = &mut devices[place];
            match (operation, of_bytes) {
                ("Read", true) => device.read_bytes = value,
                ("Write", true) => device.written_bytes = value,
                ("Read", false) => device.reads = value,
                ("Write", false) => device.writes = value,
                _ => {}
            }
        }
    }
    devices
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn blkio_v2(text: &str) -> Vec<BlkioUsage> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let mut usage = BlkioUsage { major, minor, ..BlkioUsage::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => usage.read_bytes = value,
                "wbytes" => usage.written_bytes = value,
                "rios" => usage.reads = value,
                "wios" => usage.writes = value,
                _ => {}
            }
        }
        Some(usage)
    };
    text.lines().filter_map(of_line).collect()
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The number that is all of a file; `max`, absence and anything else: 0.
fn number(files: Files<'_>, name: &str) -> u64 {
    files(name).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn words(files: Files<'_>, name: &str) -> Vec<u64> {
    let text = files(name).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// `key value` lines.
fn fields(text: &str) -> Vec<(String, u64)> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect()
}

fn field(text: &str, key: &str) -> u64 {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter(|(name, _)| *name == key).find_map(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
