//! Work on all cores with results in order.
//!
//! Memory is bounded: at most a few items per core are under way at once. Layer: pure.

use crossbeam_channel::bounded;

/// Number of threads for work that computes.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Maps `items` with `map` on `threads` threads and gives the results to `take` in the order of the items.
///
/// `worker` makes what each thread keeps for itself. Stops early, with the error, when `take` fails.
///
/// # Errors
/// What `take` returns.
pub fn map_in_order<T: Send, R: Send, W, E>(
    threads: usize,
    items: impl Iterator<Item = T> + Send,
    worker: impl Fn() -> W + Sync,
    map: impl Fn(&mut W, T) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let (to_map, work) = bounded::<(T, crossbeam_channel::Sender<R>)>(threads);
    let (in_order, results) = bounded::<crossbeam_channel::Receiver<R>>(2 * threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let work = work.clone();
            let (worker, map) = (&worker, &map);
            scope.spawn(move || {
                let mut own = worker();
                for (item, result) in work {
                    // The receiver is gone only when the caller has stopped.
                    let _ = result.send(map(&mut own, item));
                }
            });
        }
        drop(work);
        scope.spawn(move || {
            for item in items {
                let (result, receiver) = bounded(1);
                if in_order.send(receiver).is_err() || to_map.send((item, result)).is_err() {
                    return;
                }
            }
        });
        results.into_iter().try_for_each(|result| match result.recv() {
            Ok(result) => take(result),
            Err(_) => Ok(()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let mut seen = Vec::new();
        let take = |r| -> Result<(), ()> {
            seen.push(r);
            Ok(())
        };
        map_in_order(3, 0..1000, || (), |(), i| i * 2, take).unwrap();
        assert!(seen.iter().copied().eq((0..1000).map(|i| i * 2)));
    }

    #[test]
    fn an_error_stops_the_work() {
        let result = map_in_order(3, 0.., || (), |(), i: u64| i, |r| if r < 10 { Ok(()) } else { Err(r) });
        assert_eq!(result, Err(10));
    }
}
