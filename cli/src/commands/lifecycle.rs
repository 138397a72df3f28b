//! `bosun start`, `stop`, `restart`, and restart policies in words.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bosun_types::relaunch::{RelaunchInfo, RelaunchStatus, RestartIntensity, RestartPolicy, StopRequest};
use bosun_types::{Timestamp, signal};

use super::tasks;
use crate::arguments::{Restart, Start, StartTask, Stop, Streams};
use crate::context::{self, Context};
use crate::output;

/// Starts each and says its name; or one, with our streams, and gives its code.
pub async fn start(context: &Context, options: &Start) -> anyhow::Result<u8> {
    if options.attach {
        let [container] = options.containers.as_slice() else {
            bail!("--attach takes one container, here are {}", options.containers.len());
        };
        let streams = Streams { interactive: options.interactive, ..Streams::default() };
        let start = StartTask { container: container.clone(), detach: false, streams };
        return tasks::start(context, &start).await;
    }
    for name in &options.containers {
        let container = context.container(name)?;
        let pid = container.start().await.with_context(|| format!("container {name}"))?;
        told(context, name, &serde_json::json!({"container": name, "pid": pid}))?;
    }
    Ok(0)
}

/// Stops all at the same time, and says each name when it has ended, in the order given.
pub async fn stop(context: &Context, options: &Stop) -> anyhow::Result<()> {
    let request = request(options)?;
    let containers: Vec<_> =
        options.containers.iter().map(|name| context.container(name)).collect::<anyhow::Result<_>>()?;
    let stops = futures::future::join_all(containers.iter().map(|container| container.stop(request))).await;
    let mut failed = None;
    for (name, stopped) in options.containers.iter().zip(stops) {
        match stopped {
            Ok(exit) => told(context, name, &serde_json::json!({"container": name, "exit": exit}))?,
            Err(error) => {
                let error = anyhow::Error::new(error).context(format!("container {name}"));
                if let Some(before) = failed.replace(error) {
                    output::report(&before);
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Restarts each, one after the other.
pub async fn restart(context: &Context, options: &Stop) -> anyhow::Result<()> {
    let request = request(options)?;
    for name in &options.containers {
        let container = context.container(name)?;
        let pid = container.restart(request).await.with_context(|| format!("container {name}"))?;
        told(context, name, &serde_json::json!({"container": name, "pid": pid}))?;
    }
    Ok(())
}

fn told(context: &Context, name: &str, value: &serde_json::Value) -> anyhow::Result<()> {
    if context.json {
        return output::json_line(value);
    }
    output::line(name);
    Ok(())
}

fn request(options: &Stop) -> anyhow::Result<StopRequest> {
    let signal = options.signal.as_deref().map(signal::parse).transpose()?;
    Ok(StopRequest { signal, timeout_ms: Some(u64::from(options.time) * 1000) })
}

/// The policy that the flags give; `None`: they give none.
pub fn policy(options: &Restart) -> anyhow::Result<Option<RestartPolicy>> {
    let Some(when) = options.restart else { return Ok(None) };
    let intensity = options.restart_intensity.as_deref().map(intensity).transpose()?;
    let Some((first, most)) = options.restart_backoff.split_once("..") else {
        bail!("--restart-backoff {:?}: use FIRST..MOST, such as 100ms..1m", options.restart_backoff);
    };
    let policy = RestartPolicy {
        when,
        intensity,
        backoff_first_ms: millis(first)?,
        backoff_most_ms: millis(most)?,
        healthy_ms: millis(&options.restart_healthy)?,
    };
    policy.check()?;
    Ok(Some(policy))
}

/// `5/1m`.
pub fn intensity(text: &str) -> anyhow::Result<RestartIntensity> {
    let parsed = text.split_once('/').and_then(|(count, period)| Some((count.parse().ok()?, period)));
    let Some((restarts, period)) = parsed else {
        bail!("intensity {text:?}: use N/TIME, such as 5/1m");
    };
    let intensity = RestartIntensity { restarts, period_ms: millis(period)? };
    bosun_types::relaunch::check_intensity(intensity)?;
    Ok(intensity)
}

fn millis(text: &str) -> anyhow::Result<u64> {
    Ok(u64::try_from(context::duration(text)?.as_millis()).unwrap_or(u64::MAX))
}

/// The column of `ps`: how often it was started again, and what its policy is at.
pub fn cell(info: Option<&RelaunchInfo>) -> String {
    let Some(info) = info else { return "-".to_owned() };
    let seconds = |at: Option<Timestamp>| {
        let left = at.map_or(0, |at| at.0.saturating_sub(Timestamp::now().0));
        Duration::from_nanos(u64::try_from(left).unwrap_or(0)).as_secs_f64()
    };
    let state = match info.status {
        RelaunchStatus::Idle if info.stopped => ", stopped".to_owned(),
        RelaunchStatus::Idle => String::new(),
        RelaunchStatus::Waiting => format!(", again in {:.1} s", seconds(info.next_at)),
        RelaunchStatus::Relaunching => ", starting".to_owned(),
        RelaunchStatus::Stopping => ", stopping".to_owned(),
        RelaunchStatus::GivenUp => ", given up".to_owned(),
    };
    format!("{} {}{state}", info.policy.when, info.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rst_1_flags_make_a_policy() {
        let flags = |restart: &str| Restart {
            restart: Some(restart.parse().expect("good")),
            restart_intensity: Some("5/1m".to_owned()),
            restart_backoff: "50ms..2s".to_owned(),
            restart_healthy: "3s".to_owned(),
        };
        let made = policy(&flags("on-failure:3")).expect("good").expect("one");
        assert_eq!((made.backoff_first_ms, made.backoff_most_ms, made.healthy_ms), (50, 2000, 3000));
        assert_eq!(made.intensity, Some(RestartIntensity { restarts: 5, period_ms: 60_000 }));
        assert_eq!(policy(&Restart::default()).expect("good"), None);
        for bad in ["2s..50ms", "2s", "x..y"] {
            let flags = Restart { restart_backoff: bad.to_owned(), ..flags("always") };
            assert!(policy(&flags).is_err(), "{bad}");
        }
        assert!(intensity("5").is_err() && intensity("5/").is_err() && intensity("x/1m").is_err());
    }
}
