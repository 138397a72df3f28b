//! Samples as Prometheus text, version 0.0.4: one family after the other, each with its type, names as containerd's users know them (MET-2..5).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bosun_types::NamespaceName;
use bosun_types::metrics::{CgroupUsage, Metrics};
use bosun_types::tree::DaemonStatus;

/// Families by name: `counter` or `gauge`, and the lines.
#[derive(Default)]
struct Families(BTreeMap<String, (&'static str, Vec<String>)>);

impl Families {
    fn add(&mut self, name: &str, labels: &str, value: u64) {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let (_, lines) = self.0.entry(name.to_owned()).or_insert((kind, Vec::new()));
        lines.push(if labels.is_empty() { format!("{value}") } else { format!("{{{labels}}} {value}") });
    }
}

/// The whole answer.
pub fn render(status: &DaemonStatus, samples: &[(NamespaceName, Metrics)]) -> String {
    let mut families = Families::default();
    daemon(&mut families, status);
    for (namespace, metrics) in samples {
        let labels = format!(
            "container_id=\"{}\",namespace=\"{}\"",
            escaped(metrics.container.as_str()),
            escaped(namespace.as_str())
        );
        container(&mut families, &labels, &metrics.usage);
    }
    let mut text = String::new();
    for (name, (kind, lines)) in &families.0 {
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for line in lines {
            let separator = if line.starts_with('{') { "" } else { " " };
            let _ = writeln!(text, "{name}{separator}{line}");
        }
    }
    text
}

fn daemon(families: &mut Families, status: &DaemonStatus) {
    families.add("bosun_containers", "", status.containers);
    families.add("bosun_tasks_live", "", status.tasks_live);
    families.add("bosun_operations_open", "", status.operations_open);
    families.add("bosun_operations_parked", "", status.operations_parked);
    families.add("bosun_events_total", "", status.event_sequence);
    families.add("bosun_recovering", "", u64::from(status.recovering));
    families.add("bosun_read_only", "", u64::from(status.read_only.is_some()));
}

fn container(families: &mut Families, labels: &str, usage: &CgroupUsage) {
    let CgroupUsage { cgroup_version: _, cpu, memory, pids, blkio, hugetlb } = usage;
    let mut add = |name: &str, value| families.add(&format!("container_{name}"), labels, value);
    add("cpu_total_nanoseconds", cpu.total);
    add("cpu_user_nanoseconds", cpu.user);
    add("cpu_kernel_nanoseconds", cpu.kernel);
    add("cpu_throttle_periods_total", cpu.periods);
    add("cpu_throttled_periods_total", cpu.throttled_periods);
    add("cpu_throttled_time_nanoseconds", cpu.throttled);
    add("memory_usage_usage_bytes", memory.usage);
    add("memory_usage_limit_bytes", memory.limit);
    add("memory_usage_max_bytes", memory.max);
    add("memory_usage_failcnt_total", memory.limit_hits);
    add("memory_swap_usage_bytes", memory.swap_usage);
    add("memory_swap_limit_bytes", memory.swap_limit);
    add("memory_kernel_usage_bytes", memory.kernel_usage);
    add("memory_oom_total", memory.oom_kills);
    add("pids_current", pids.current);
    add("pids_limit", pids.limit);
    for (key, value) in &memory.stat {
        // The kernel's words are of letters, digits and `_`; what is not, a newer kernel's, is left out.
        if key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            add(&format!("memory_{key}{}", unit_of_stat(key)), *value);
        }
    }
    for (number, value) in cpu.per_cpu.iter().enumerate() {
        families.add("container_per_cpu_nanoseconds", &format!("{labels},cpu=\"{number}\""), *value);
    }
    for device in blkio {
        let mut add = |name: &str, op: &str, value| {
            let device = format!("major=\"{}\",minor=\"{}\",op=\"{op}\"", device.major, device.minor);
            families.add(&format!("container_blkio_{name}"), &format!("{labels},{device}"), value);
        };
        add("io_service_bytes_recursive_bytes", "read", device.read_bytes);
        add("io_service_bytes_recursive_bytes", "write", device.written_bytes);
        add("io_serviced_recursive_total", "read", device.reads);
        add("io_serviced_recursive_total", "write", device.writes);
    }
    for pages in hugetlb {
        let labels = format!("{labels},page=\"{}\"", pages.page_bytes);
        families.add("container_hugetlb_usage_bytes", &labels, pages.usage);
        families.add("container_hugetlb_max_bytes", &labels, pages.max);
        families.add("container_hugetlb_failcnt_total", &labels, pages.limit_hits);
    }
}

/// `memory.stat` counts bytes, but for what happened so many times.
fn unit_of_stat(key: &str) -> &'static str {
    let key = key.strip_prefix("total_").unwrap_or(key);
    let events = ["pg", "workingset_", "thp_", "zswpin", "zswpout", "zswpwb", "swpin", "swpout", "numa_"];
    if events.iter().any(|prefix| key.starts_with(prefix)) { "_total" } else { "_bytes" }
}

/// A label's value (exposition format 0.0.4).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use bosun_types::metrics::{BlkioUsage, CpuUsage, HugetlbUsage, MemoryUsage};
    use bosun_types::{ContainerId, Timestamp};

    use super::*;

    fn status() -> DaemonStatus {
        DaemonStatus {
            version: String::new(),
            revision: String::new(),
            pid: 1,
            started_at: Timestamp(0),
            recovering: false,
            read_only: None,
            root: String::new(),
            state: String::new(),
            containers: 2,
            tasks_live: 1,
            operations_open: 0,
            operations_parked: 0,
            event_sequence: 7,
        }
    }

    fn sample(container: &str) -> (NamespaceName, Metrics) {
        let usage = CgroupUsage {
            cgroup_version: 1,
            cpu: CpuUsage { total: 5, per_cpu: vec![2, 3], ..CpuUsage::default() },
            memory: MemoryUsage {
                oom_kills: 1,
                stat: vec![
                    ("rss".to_owned(), 9),
                    ("total_pgfault".to_owned(), 8),
                    ("odd-word".to_owned(), 1),
                ],
                ..MemoryUsage::default()
            },
            blkio: vec![BlkioUsage { major: 8, minor: 0, read_bytes: 4, ..BlkioUsage::default() }],
            hugetlb: vec![HugetlbUsage { page_bytes: 2 << 20, usage: 6, ..HugetlbUsage::default() }],
            ..CgroupUsage::default()
        };
        let container = ContainerId::new(container).expect("good");
        (NamespaceName::default_name(), Metrics { container, sampled_at: Timestamp(1), usage })
    }

    #[test]
    fn met_2_families_are_together_with_their_type_and_labels() {
        let text = render(&status(), &[sample("a"), sample("b")]);
        let lines: Vec<&str> = text.lines().collect();
        let place = lines.iter().position(|line| *line == "# TYPE container_cpu_total_nanoseconds gauge");
        let place = place.expect("a type line");
        assert_eq!(
            lines[place + 1..place + 3],
            [
                "container_cpu_total_nanoseconds{container_id=\"a\",namespace=\"default\"} 5",
                "container_cpu_total_nanoseconds{container_id=\"b\",namespace=\"default\"} 5"
            ]
        );
        for line in [
            "bosun_containers 2",
            "# TYPE container_memory_oom_total counter",
            "container_memory_oom_total{container_id=\"a\",namespace=\"default\"} 1",
            "container_memory_rss_bytes{container_id=\"a\",namespace=\"default\"} 9",
            "container_memory_total_pgfault_total{container_id=\"a\",namespace=\"default\"} 8",
            "container_per_cpu_nanoseconds{container_id=\"a\",namespace=\"default\",cpu=\"1\"} 3",
            "container_blkio_io_service_bytes_recursive_bytes{container_id=\"a\",namespace=\"default\",major=\"8\",minor=\"0\",op=\"read\"} 4",
            "container_hugetlb_usage_bytes{container_id=\"a\",namespace=\"default\",page=\"2097152\"} 6",
        ] {
            assert!(lines.contains(&line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("odd-word"));
        let types = lines.iter().filter(|line| line.starts_with("# TYPE"));
        let mut names: Vec<&str> = types.map(|line| line.split(' ').nth(2).expect("a name")).collect();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "no family twice");
    }

    #[test]
    fn met_4_memory_is_told_by_its_old_names() {
        let text = render(&status(), &[sample("a")]);
        for name in [
            "usage_usage_bytes",
            "usage_limit_bytes",
            "usage_max_bytes",
            "usage_failcnt_total",
            "swap_usage_bytes",
            "swap_limit_bytes",
            "kernel_usage_bytes",
            "rss_bytes",
            "total_pgfault_total",
            "oom_total",
        ] {
            let line = format!("\ncontainer_memory_{name}{{container_id=\"a\"");
            assert!(text.contains(&line), "{name} is not in\n{text}");
        }
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
