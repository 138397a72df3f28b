//! `Metrics` of `task.capnp`.

use bosun_types::Result;
use bosun_types::metrics::{
    BlkioUsage, CgroupUsage, CpuUsage, HugetlbUsage, MemoryUsage, Metrics, PidsUsage,
};

use super::{Sound, Wire, length, read_list, read_parsed, read_text, write_list};
use crate::task_capnp as wire;

impl Wire for Metrics {
    type Struct = wire::metrics::Owned;

    fn write(&self, mut to: wire::metrics::Builder<'_>) {
        let CgroupUsage { cgroup_version, cpu, memory, pids, blkio, hugetlb } = &self.usage;
        to.set_container(self.container.as_str());
        to.set_sampled_at(self.sampled_at.0);
        to.set_cgroup_version(*cgroup_version);
        cpu.write(to.reborrow().init_cpu());
        memory.write(to.reborrow().init_memory());
        let mut out = to.reborrow().init_pids();
        out.set_current(pids.current);
        out.set_limit(pids.limit);
        write_list(blkio, to.reborrow().init_blkio(length(blkio)));
        write_list(hugetlb, to.init_hugetlb(length(hugetlb)));
    }

    fn read(from: wire::metrics::Reader<'_>) -> Result<Self> {
        let pids = from.get_pids().sound()?;
        Ok(Self {
            container: read_parsed(from.get_container())?,
            sampled_at: bosun_types::Timestamp(from.get_sampled_at()),
            usage: CgroupUsage {
                cgroup_version: from.get_cgroup_version(),
                cpu: CpuUsage::read(from.get_cpu().sound()?)?,
                memory: MemoryUsage::read(from.get_memory().sound()?)?,
                pids: PidsUsage { current: pids.get_current(), limit: pids.get_limit() },
                blkio: read_list(from.get_blkio())?,
                hugetlb: read_list(from.get_hugetlb())?,
            },
        })
    }
}

impl Wire for CpuUsage {
    type Struct = wire::cpu_metrics::Owned;

    fn write(&self, mut to: wire::cpu_metrics::Builder<'_>) {
        to.set_total(self.total);
        to.set_user(self.user);
        to.set_kernel(self.kernel);
        let mut out = to.reborrow().init_per_cpu(length(&self.per_cpu));
        for (place, value) in (0..).zip(&self.per_cpu) {
            out.set(place, *value);
        }
        to.set_periods(self.periods);
        to.set_throttled_periods(self.throttled_periods);
        to.set_throttled(self.throttled);
    }

    fn read(from: wire::cpu_metrics::Reader<'_>) -> Result<Self> {
        Ok(Self {
            total: from.get_total(),
            user: from.get_user(),
            kernel: from.get_kernel(),
            per_cpu: from.get_per_cpu().sound()?.iter().collect(),
            periods: from.get_periods(),
            throttled_periods: from.get_throttled_periods(),
            throttled: from.get_throttled(),
        })
    }
}

impl Wire for MemoryUsage {
    type Struct = wire::memory_metrics::Owned;

    fn write(&self, mut to: wire::memory_metrics::Builder<'_>) {
        to.set_usage(self.usage);
        to.set_limit(self.limit);
        to.set_max(self.max);
        to.set_limit_hits(self.limit_hits);
        to.set_swap_usage(self.swap_usage);
        to.set_swap_limit(self.swap_limit);
        to.set_kernel_usage(self.kernel_usage);
        to.set_oom_kills(self.oom_kills);
        let mut out = to.init_stat(length(&self.stat));
        for (place, (key, value)) in (0..).zip(&self.stat) {
            let mut counter = out.reborrow().get(place);
            counter.set_key(key.as_str());
            counter.set_value(*value);
        }
    }

    fn read(from: wire::memory_metrics::Reader<'_>) -> Result<Self> {
        let stat = from.get_stat().sound()?;
        Ok(Self {
            usage: from.get_usage(),
            limit: from.get_limit(),
            max: from.get_max(),
            limit_hits: from.get_limit_hits(),
            swap_usage: from.get_swap_usage(),
            swap_limit: from.get_swap_limit(),
            kernel_usage: from.get_kernel_usage(),
            oom_kills: from.get_oom_kills(),
            stat: stat
                .iter()
                .map(|counter| Ok((read_text(counter.get_key())?, counter.get_value())))
                .collect::<Result<_>>()?,
        })
    }
}

impl Wire for BlkioUsage {
    type Struct = wire::blkio_metrics::Owned;

    fn write(&self, mut to: wire::blkio_metrics::Builder<'_>) {
        to.set_major(self.major);
        to.set_minor(self.minor);
        to.set_read_bytes(self.read_bytes);
        to.set_written_bytes(self.written_bytes);
        to.set_reads(self.reads);
        to.set_writes(self.writes);
    }

    fn read(from: wire::blkio_metrics::Reader<'_>) -> Result<Self> {
        Ok(Self {
            major: from.get_major(),
            minor: from.get_minor(),
            read_bytes: from.get_read_bytes(),
            written_bytes: from.get_written_bytes(),
            reads: from.get_reads(),
            writes: from.get_writes(),
        })
    }
}

impl Wire for HugetlbUsage {
    type Struct = wire::hugetlb_metrics::Owned;

    fn write(&self, mut to: wire::hugetlb_metrics::Builder<'_>) {
        to.set_page_bytes(self.page_bytes);
        to.set_usage(self.usage);
        to.set_max(self.max);
        to.set_limit_hits(self.limit_hits);
    }

    fn read(from: wire::hugetlb_metrics::Reader<'_>) -> Result<Self> {
        Ok(Self {
            page_bytes: from.get_page_bytes(),
            usage: from.get_usage(),
            max: from.get_max(),
            limit_hits: from.get_limit_hits(),
        })
    }
}
