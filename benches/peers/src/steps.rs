//! The cost of a second worker: CPU time per message with two workers compared to one. Both use two
//! cores and share one with the load generator, so compare the ratio with that of raw-epoll.

use crate::Result;
use crate::args::Options;
use crate::campaign::Campaign;
use crate::cells::{self, CELLS};
use crate::servers::{OURS, Task, YARDSTICK};
use crate::table::{Table, median};

pub(crate) fn run(options: &Options) -> Result<()> {
    let cells = cells::select(&options.cells, CELLS)?;
    let among = |name: &str| [OURS, YARDSTICK].contains(&name);
    let cpus = options.server_cpus.clone().unwrap_or_else(|| "0,1".to_owned());
    let mut campaign = Campaign::prepare_some(options, Task::Echo, cpus, among)?;
    for cell in &cells {
        // Each run with one worker and with two.
        let runs = campaign.measure(|campaign, server, _| {
            let run =
                |workers| campaign.load(campaign.place_of(workers)).measure(server, cell, None);
            Ok([run(1)?, run(2)?].map(|figures| figures.server_cpu_us_per_message))
        });
        let mut table = Table::new(&["server", "one", "two", "two to one", ""]);
        for (server, runs) in campaign.servers.iter().zip(&runs) {
            let [one, two] = [0, 1].map(|index| median(runs.iter().map(|run| run[index])));
            table.add([
                server.name.clone(),
                format!("{one:.3}"),
                format!("{two:.3}"),
                format!("{:.2}", two / one),
                String::new(),
            ]);
        }
        print!("{}  (CPU us/message, workers on CPU {})\n{table}\n", cell.name, campaign.cpus);
    }
    campaign.check_runs()
}
