//! How much a domain's virtual processors ran, and how much they would have liked to.

use std::{ptr, slice, time::Duration};

use virt::{domain::Domain as Handle, error::Error, sys};

use crate::hypervisor::VcpuTime;

/// The time of each virtual processor since the domain started.
pub(in crate::hypervisor) fn vcpu_times(domain: &Handle) -> Result<Vec<VcpuTime>, Error> {
    let mut records = ptr::null_mut();
    // SAFETY: the domain and the list of it, which null ends, live through the call, and `records` takes
    // its answer.
    let count = unsafe {
        let mut domains = [domain.as_ptr(), ptr::null_mut()];
        sys::virDomainListGetStats(
            domains.as_mut_ptr(),
            sys::VIR_DOMAIN_STATS_VCPU,
            &raw mut records,
            0,
        )
    };
    if count < 0 || records.is_null() {
        return Err(Error::last_error());
    }
    // SAFETY: on success there are `count` records, each with `nparams` parameters, which live until the
    // list is freed. A parameter's name ends with NUL, and `ul` is the member that its type stands for.
    let times = unsafe {
        let records_read = slice::from_raw_parts(records, usize::try_from(count).unwrap_or(0));
        let parameters = records_read.first().map_or(&[][..], |record| {
            let count = usize::try_from((**record).nparams).unwrap_or(0);
            slice::from_raw_parts((**record).params, count)
        });
        let numbers = parameters
            .iter()
            .filter(|it| u32::try_from(it.type_) == Ok(sys::VIR_TYPED_PARAM_ULLONG))
            .map(|it| {
                let name = std::ffi::CStr::from_ptr(it.field.as_ptr());
                (name.to_string_lossy(), it.value.ul)
            });
        read(numbers)
    };
    // SAFETY: nothing refers to the list any more.
    unsafe { sys::virDomainStatsRecordListFree(records) };
    Ok(times)
}

/// The times in parameters named `vcpu.N.time` and `vcpu.N.delay`, in nanoseconds.
fn read(parameters: impl Iterator<Item = (impl AsRef<str>, u64)>) -> Vec<VcpuTime> {
    let mut times: Vec<(u32, VcpuTime)> = vec![];
    for (name, value) in parameters {
        let mut parts = name.as_ref().split('.').skip(1);
        let (Some(Ok(number)), Some(what)) = (parts.next().map(str::parse), parts.next()) else {
            continue;
        };
        let value = Duration::from_nanos(value);
        let at = times.iter().position(|(known, _)| *known == number);
        let at = at.unwrap_or_else(|| {
            times.push((number, VcpuTime::default()));
            times.len() - 1
        });
        match what {
            "time" => times[at].1.ran = value,
            "delay" => times[at].1.waited = value,
            _ => {}
        }
    }
    times.into_iter().map(|(_, time)| time).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_each_processor() {
        let parameters = [
            ("vcpu.current", 2),
            ("vcpu.0.time", 7_000),
            ("vcpu.0.delay", 5),
            ("vcpu.1.time", 9_000),
            ("vcpu.1.wait", 1),
        ];
        let time = |ran, waited| VcpuTime {
            ran: Duration::from_nanos(ran),
            waited: Duration::from_nanos(waited),
        };
        assert_eq!(
            read(parameters.into_iter()),
            [time(7_000, 5), time(9_000, 0)]
        );
    }
}
