//! `--filter`, the same on every list.

use bosun_client::Filters;
use clap::Args;

/// Which items of a list.
#[derive(Args, Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only what matches, such as `labels.tier==web,name~=^api`: FIELD[==|!=|~=]VALUE, commas are "and"; repeatable, which is "or".
    #[arg(short, long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
}

impl From<&Filter> for Filters {
    fn from(filter: &Filter) -> Self {
        filter.filters.as_slice().into()
    }
}
