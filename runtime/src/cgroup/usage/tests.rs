//! Files as kernels write them, v1 and v2.

use super::*;

fn files<'a>(texts: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| texts.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
}

#[test]
fn met_3_to_5_files_of_cgroup_v1() {
    let files = files(&[
        ("cpuacct.usage", "47411291\n"),
        ("cpuacct.usage_user", "30000000\n"),
        ("cpuacct.usage_sys", "17411291\n"),
        ("cpuacct.usage_percpu", "40000000 7411291 \n"),
        ("cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 900\n"),
        ("memory.usage_in_bytes", "4096000\n"),
        ("memory.limit_in_bytes", "67108864\n"),
        ("memory.max_usage_in_bytes", "5000000\n"),
        ("memory.failcnt", "3\n"),
        ("memory.memsw.usage_in_bytes", "4196000\n"),
        ("memory.memsw.limit_in_bytes", "9223372036854771712\n"),
        ("memory.kmem.usage_in_bytes", "1000\n"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"),
        ("memory.stat", "cache 1\nrss 2\ntotal_rss 3\n"),
        ("pids.current", "2\n"),
        ("pids.max", "max\n"),
        (
            "blkio.throttle.io_service_bytes",
            "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n254:1 Read 1\nTotal 31\n",
        ),
        ("blkio.throttle.io_serviced", "8:0 Read 3\n8:0 Write 4\nTotal 7\n"),
        ("hugetlb.2MB.usage_in_bytes", "0\n"),
        ("hugetlb.2MB.max_usage_in_bytes", "2097152\n"),
        ("hugetlb.1GB.usage_in_bytes", "0\n"),
    ]);
    let usage = of_v1(&files);
    assert_eq!(
        usage.cpu,
        CpuUsage {
            total: 47_411_291,
            user: 30_000_000,
            kernel: 17_411_291,
            per_cpu: vec![40_000_000, 7_411_291],
            periods: 5,
            throttled_periods: 2,
            throttled: 900
        }
    );
    let stat = [("cache", 1), ("rss", 2), ("total_rss", 3)].map(|(key, value)| (key.to_owned(), value));
    assert_eq!(
        usage.memory,
        MemoryUsage {
            usage: 4_096_000,
            limit: 67_108_864,
            max: 5_000_000,
            limit_hits: 3,
            swap_usage: 100_000,
            swap_limit: 0,
            kernel_usage: 1000,
            oom_kills: 4,
            stat: stat.to_vec()
        }
    );
    assert_eq!(usage.pids, PidsUsage { current: 2, limit: 0 });
    assert_eq!(
        usage.blkio,
        [
            BlkioUsage { major: 8, minor: 0, read_bytes: 10, written_bytes: 20, reads: 3, writes: 4 },
            BlkioUsage { major: 254, minor: 1, read_bytes: 1, ..BlkioUsage::default() }
        ]
    );
    assert_eq!(
        usage.hugetlb,
        [HugetlbUsage { page_bytes: 2 << 20, usage: 0, max: 2_097_152, limit_hits: 0 }]
    );
}

#[test]
fn met_8_files_of_cgroup_v2() {
    let files = files(&[
        (
            "cpu.stat",
            "usage_usec 47\nuser_usec 30\nsystem_usec 17\nnr_periods 5\nnr_throttled 2\nthrottled_usec 9\n",
        ),
        ("memory.current", "4096\n"),
        ("memory.max", "max\n"),
        ("memory.peak", "8192\n"),
        ("memory.events", "low 0\nhigh 0\nmax 6\noom 1\noom_kill 2\n"),
        ("memory.swap.current", "5\n"),
        ("memory.swap.max", "50\n"),
        ("memory.stat", "anon 1\nfile 2\nkernel 3\n"),
        ("pids.current", "2\n"),
        ("pids.max", "64\n"),
        ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n254:0 \n"),
        ("hugetlb.2MB.current", "2097152\n"),
        ("hugetlb.2MB.events", "max 7\n"),
    ]);
    let usage = of_v2(&files);
    assert_eq!(usage.cgroup_version, 2);
    assert_eq!((usage.cpu.total, usage.cpu.user, usage.cpu.kernel), (47_000, 30_000, 17_000));
    assert_eq!((usage.cpu.periods, usage.cpu.throttled_periods, usage.cpu.throttled), (5, 2, 9_000));
    let memory = &usage.memory;
    assert_eq!((memory.usage, memory.limit, memory.max, memory.limit_hits), (4096, 0, 8192, 6));
    assert_eq!((memory.swap_usage, memory.swap_limit, memory.kernel_usage, memory.oom_kills), (5, 50, 3, 2));
    assert_eq!(usage.pids, PidsUsage { current: 2, limit: 64 });
    assert_eq!(
        usage.blkio[0],
        BlkioUsage { major: 8, minor: 0, read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 }
    );
    assert_eq!(
        usage.hugetlb,
        [HugetlbUsage { page_bytes: 2 << 20, usage: 2_097_152, max: 0, limit_hits: 7 }]
    );
}

#[test]
fn a_group_without_controllers_is_all_zero() {
    let usage = of_v2(&|_| None);
    assert_eq!(usage, CgroupUsage { cgroup_version: 2, ..CgroupUsage::default() });
}

#[test]
fn malformed_files_are_read_as_absent() {
    let files = files(&[
        ("memory.usage_in_bytes", "rubbish"),
        ("memory.stat", "no number here\n\n"),
        ("blkio.throttle.io_service_bytes", "8 Read x\n::\n"),
        ("cpu.stat", "nr_periods"),
    ]);
    assert_eq!(of_v1(&files), CgroupUsage { cgroup_version: 1, ..CgroupUsage::default() });
}
