//! The cost of a second worker: CPU time per message with two workers compared to one. Both use two
//! cores and share one with the load generator, so compare the ratio with that of raw-epoll.

use crate::Result;
use crate::args::Options;
use crate::cells::{self, CELLS};
use crate::load::{Load, Place};
use crate::machine::Machine;
use crate::process;
use crate::servers::{self, OURS, Task, YARDSTICK};
use crate::speed;
use crate::table::Table;

pub(crate) fn run(options: &Options) -> Result<()> {
    let cells = cells::select(&options.cells, CELLS)?;
    let among = |name: &str| [OURS, YARDSTICK].contains(&name);
    let (servers, program) = servers::prepare_some(options, Task::Echo, among)?;
    let cores = Machine::detect()?.cores;
    let cpus = options.server_cpus.clone().unwrap_or_else(|| "0,1".to_owned());
    process::pin_this_process(options.load_cpu, &cpus)?;
    for cell in &cells {
        // For each server, the runs with one worker and those with two.
        let mut runs = vec![[Vec::new(), Vec::new()]; servers.len()];
        for _ in 0..options.rounds {
            for (server, runs) in servers.iter().zip(&mut runs) {
                for (workers, runs) in (1..).zip(runs) {
                    let place = Place { workers, cpus: &cpus, cores };
                    let load = Load { program: &program, place, options };
                    runs.push(load.measure(server, cell, None)?);
                }
            }
        }
        let mut table = Table::new(&["server", "one", "two", "two to one", ""]);
        for (server, runs) in servers.iter().zip(&runs) {
            let [one, two] =
                runs.each_ref().map(|runs| speed::medians(runs).server_cpu_us_per_message);
            table.add([
                server.name.clone(),
                format!("{one:.3}"),
                format!("{two:.3}"),
                format!("{:.2}", two / one),
                String::new(),
            ]);
        }
        print!("{}  (CPU us/message, workers on CPU {cpus})\n{table}\n", cell.name);
    }
    Ok(())
}
