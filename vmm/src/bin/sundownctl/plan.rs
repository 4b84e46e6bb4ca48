//! `sundownctl plan`: asks the running machine, or plans here for one that does not run, or for no machine
//! at all: a topology file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use api::client::Client;
use api::config::{TeardownPolicy, VmConfig};
use api::plan::{PlanReport, Plans};
use clap::Args;
use serde::Serialize;
use vmm::plan::topology::{Checked, Topology};

use crate::command::{parse_policy, read};
use crate::show;
use crate::show::plan::Detail;

/// What is planned for, and what of it is shown.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// Plan for the machine of this configuration, which need not run; `-` reads standard input
    #[arg(long, value_name = "FILE", group = "file")]
    config: Option<PathBuf>,
    /// Plan for the devices of this topology file (docs/topology.md), and check what it expects: exit code 1
    /// if a figure is another. `-` reads standard input
    #[arg(long, value_name = "FILE", group = "file")]
    topology: Option<PathBuf>,
    /// Plan under this policy only
    #[arg(long, value_parser = parse_policy)]
    policy: Option<TeardownPolicy>,
    /// So many workers in place of those in the file
    #[arg(long, value_name = "N", requires = "file", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Show every device, not only those that take longest
    #[arg(long)]
    all: bool,
}

impl PlanArguments {
    /// Plans and prints. `client` is needed where no file is given.
    pub fn run(
        self,
        client: anyhow::Result<Client>,
        json: bool,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        if let Some(file) = &self.topology {
            return self.of_topology(file, json, out);
        }
        let mut answer = match &self.config {
            Some(file) => self.of_file(file)?,
            None => client
                .context("planning for a running machine; --config FILE or --topology FILE plans for another")?
                .plan()?,
        };
        if let Some(policy) = self.policy {
            answer.policy = policy;
            for report in std::iter::once(&mut answer.host).chain(&mut answer.guest) {
                keep(report, policy);
            }
        }
        if json {
            write_json(out, &answer)
        } else {
            let text = show::plan::plans(&answer, self.detail());
            out.write_all(text.as_bytes()).context("writing the plan")
        }
    }

    fn of_topology(&self, file: &Path, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        let doing = || format!("planning for the topology `{}`", file.display());
        let text = String::from_utf8(read(file)?).with_context(doing)?;
        let mut topology = Topology::parse(&text).with_context(doing)?;
        let model = &mut topology.model;
        model.workers = self.workers.unwrap_or(model.workers);
        let mut plan = model.report().with_context(doing)?;
        let expectations = topology.expectations.iter();
        let expectations: Vec<Checked> = expectations
            .map(|expectation| expectation.check(&plan))
            .collect();
        if let Some(policy) = self.policy {
            keep(&mut plan, policy);
        }
        if json {
            let answer = TopologyPlan {
                plan: &plan,
                expectations: &expectations,
            };
            write_json(out, &answer)?;
        } else {
            let chosen = self.policy.unwrap_or_default();
            let mut text = show::plan::report(&plan, chosen, self.detail());
            text += &show::plan::expectations(&expectations);
            out.write_all(text.as_bytes()).context("writing the plan")?;
        }
        let missed = expectations.iter().filter(|checked| !checked.met).count();
        if missed > 0 {
            bail!(
                "{}: {missed} of {} figures are not as expected",
                file.display(),
                expectations.len()
            );
        }
        Ok(())
    }

    fn detail(&self) -> Detail {
        if self.all { Detail::All } else { Detail::Most }
    }

    fn of_file(&self, file: &Path) -> anyhow::Result<Plans> {
        let doing = || format!("planning for the configuration `{}`", file.display());
        let mut config = VmConfig::from_json(&read(file)?).with_context(doing)?;
        config.teardown.workers = self.workers.or(config.teardown.workers);
        vmm::plan::of_config(&config).with_context(doing)
    }
}

/// What `--json` prints for a topology file.
#[derive(Serialize)]
struct TopologyPlan<'a> {
    plan: &'a PlanReport,
    expectations: &'a [Checked],
}

fn keep(report: &mut PlanReport, policy: TeardownPolicy) {
    report.policies.retain(|plan| plan.policy == policy);
}

fn write_json(out: &mut impl Write, value: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).context("writing the plan")?;
    writeln!(out).context("writing the plan")
}
