//! What a container's cgroup has used (MET-3..5): one shape for cgroup v1 and v2.

use serde::{Deserialize, Serialize};

use crate::{ContainerId, Timestamp};

/// One sample of one container. A number that the host's cgroup does not give is 0; a controller that it has not, all zeros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// Whose.
    pub container: ContainerId,
    /// When it was read.
    pub sampled_at: Timestamp,
    /// The numbers.
    #[serde(flatten)]
    pub usage: CgroupUsage,
}

/// What the files of a cgroup say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupUsage {
    /// 1 or 2: where its controllers are.
    pub cgroup_version: u8,
    /// Processors.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Processes and threads.
    pub pids: PidsUsage,
    /// Block devices, those that were used.
    pub blkio: Vec<BlkioUsage>,
    /// Huge pages, by size.
    pub hugetlb: Vec<HugetlbUsage>,
}

/// Processor time in nanoseconds, and how often the limit was felt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuUsage {
    /// In all.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub kernel: u64,
    /// By processor; cgroup v1 only.
    pub per_cpu: Vec<u64>,
    /// Periods with a limit.
    pub periods: u64,
    /// Of these, how many ended early.
    pub throttled_periods: u64,
    /// Time waited for a new period.
    pub throttled: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUsage {
    /// Now, page cache included.
    pub usage: u64,
    /// Limit; 0: none.
    pub limit: u64,
    /// Highest so far; 0 where the kernel does not keep it.
    pub max: u64,
    /// How often the limit was reached.
    pub limit_hits: u64,
    /// Swapped out.
    pub swap_usage: u64,
    /// Limit of what is swapped out; 0: none.
    pub swap_limit: u64,
    /// The kernel's own for this group.
    pub kernel_usage: u64,
    /// Processes that were killed for want of memory.
    pub oom_kills: u64,
    /// `memory.stat` under the kernel's words, in its order.
    pub stat: Vec<(String, u64)>,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsUsage {
    /// Now.
    pub current: u64,
    /// Limit; 0: none.
    pub limit: u64,
}

/// One block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlkioUsage {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Read requests.
    pub reads: u64,
    /// Write requests.
    pub writes: u64,
}

/// One size of huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugetlbUsage {
    /// Size of a page in bytes.
    pub page_bytes: u64,
    /// Bytes now.
    pub usage: u64,
    /// Highest so far; 0 where the kernel does not keep it.
    pub max: u64,
    /// How often the limit was reached.
    pub limit_hits: u64,
}
